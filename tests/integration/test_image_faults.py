"""What happens to images on their way: every hit is scored once and rightly, as with patches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray

from integration.faults.proxy import FaultProxy
from integration.serving import settings, suspended
from protosonic.inference.dispatcher import Dispatcher
from protosonic.inference.endpoint_options import IMAGE_SUFFIX
from protosonic.inference.hits import HitBatch
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.serving.environment import find_or_create_environment
from protosonic.serving.repository import PAYLOADS, ServedModel, write_repository
from protosonic.serving.server import Ports, TritonServer, choose_ports
from protosonic.stages.infer import make_dispatcher
from support.hit_batches import random_batch

TOLERANCE = 1e-5
NAME = "cnn"
BATCHES = 30
IMPATIENT = {"connect_timeout_s": 2.0, "request_timeout_s": 5.0, "request_hits": 50, "max_in_flight": 4}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, linear_model: Path) -> Iterator[TritonServer]:
    """Both forms of a model, which can be unloaded and loaded again."""
    folder = tmp_path_factory.mktemp("server")
    for payload in PAYLOADS:
        write_repository(folder / "models", linear_model, ServedModel(NAME), payload=payload)
    arguments = ["--model-control-mode=explicit", "--load-model=*"]
    with TritonServer(
        find_or_create_environment(),
        folder / "models",
        choose_ports(Ports(0, 0, 0)),
        folder / "server.log",
        arguments,
    ) as running:
        for suffix in ("", IMAGE_SUFFIX):
            running.wait_until_ready(NAME + suffix)
        yield running


@pytest.fixture
def proxy(server: TritonServer) -> Iterator[FaultProxy]:
    with FaultProxy(int(server.url.rpartition(":")[2])) as proxy:
        proxy.behave(delay_s=0.01)
        yield proxy


@pytest.fixture(scope="module")
def hits() -> HitBatch:
    return random_batch((150, 60, 0, 40))


@pytest.fixture(scope="module")
def expected(linear_model: Path, hits: HitBatch) -> NDArray[np.float32]:
    return OnnxRuntimeBackend(linear_model, threads=1).infer(hits.patches())


Run = Callable[[Callable[[], None]], Dispatcher]


@pytest.fixture
def run(proxy: FaultProxy, linear_model: Path, hits: HitBatch, expected: NDArray[np.float32]) -> Run:
    """Score batches while something happens; gives the closed dispatcher."""

    def run(happen: Callable[[], None]) -> Dispatcher:
        configuration = settings(proxy.url, name=NAME, **IMPATIENT)
        dispatcher = make_dispatcher(configuration, linear_model, threads=1)
        accident = threading.Thread(target=happen)
        scores: list[NDArray[np.float32]] = []
        n = 0

        def batches() -> Iterator[HitBatch]:
            for _ in range(BATCHES):
                yield hits

        for some, _ in dispatcher.score(batches()):
            scores.append(some)
            n += len(some)
            if n > BATCHES * len(hits) // 3 and accident.ident is None:
                accident.start()
        accident.join()
        dispatcher.close()
        found = np.concatenate(scores)
        np.testing.assert_allclose(found, np.tile(expected, (BATCHES, 1)), rtol=0, atol=TOLERANCE)
        assert dispatcher.statistics[0].patches + dispatcher.cpu_patches == len(found)
        return dispatcher

    return run


def test_undisturbed(run: Run) -> None:
    dispatcher = run(lambda: None)
    [statistics] = dispatcher.statistics
    assert (statistics.payload, dispatcher.cpu_patches, statistics.n_faults) == ("image", 0, 0)


def test_connections_that_are_reset(run: Run, proxy: FaultProxy) -> None:
    def reset() -> None:
        proxy.behave(reset=True)
        time.sleep(0.5)
        proxy.behave(delay_s=0.01)

    dispatcher = run(reset)
    assert dispatcher.statistics[0].faults_by_class["unavailable"] > 0


def test_connections_that_are_cut_in_the_middle_of_a_message(run: Run, proxy: FaultProxy) -> None:
    def cut() -> None:
        proxy.behave(delay_s=0.01, close_after=700)
        time.sleep(1.0)
        proxy.behave(delay_s=0.01)

    dispatcher = run(cut)
    assert dispatcher.statistics[0].faults_by_class["unavailable"] > 0


def test_a_server_that_is_stopped_for_a_while(run: Run, server: TritonServer) -> None:
    def stop() -> None:
        with suspended(psutil.Process(server.pid)):
            time.sleep(7)  # longer than a request may take

    dispatcher = run(stop)
    assert dispatcher.statistics[0].faults_by_class["timeout"] > 0


def test_images_that_are_served_no_more_are_replaced_by_patches(run: Run, server: TritonServer) -> None:
    with triton.InferenceServerClient(server.url.removeprefix("grpc://")) as control:
        dispatcher = run(lambda: control.unload_model(NAME + IMAGE_SUFFIX))
        [statistics] = dispatcher.statistics
        assert statistics.faults_by_class["not-ready"] > 0
        control.load_model(NAME + IMAGE_SUFFIX)
