"""Many client processes at one endpoint, and what each of them got."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper

from integration.faults.servers import FaultyServer, Repository
from integration.serving import HANGS_AFTER_S, sparse_patches
from protosonic.inference.dispatcher import Dispatcher
from protosonic.inference.endpoint_options import EndpointOptions
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.inference.triton_client import Answer, TritonClient
from protosonic.inference.untrained import untrained_model

REQUEST_PATCHES = 126
"""Hits of a request; two canaries go with them."""
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Share:
    """What a client got.

    Attributes
    ----------
    hits
        Hits that were scored while all clients were at work.
    scored
        All hits that it was given back; each has the score that it must have.
    on_cpu
        Those of them that were not scored by the endpoint.
    overloads, failures
        Calls that were refused for overload, and all that failed.
    """

    hits: int
    scored: int
    on_cpu: int
    overloads: int
    failures: int


def endpoint(url: str, **options: Any) -> EndpointOptions:
    """Options with requests of :data:`REQUEST_PATCHES` hits."""
    return EndpointOptions(url, request_bytes=(REQUEST_PATCHES + 2) * 9216, **options)


def run_clients(
    n: int, url: str, model: Path, seconds: float, *, policy: str = "endpoint-first", **options: Any
) -> list[Share]:
    """Run clients, and count what each gets in a time that begins when all are at work.

    Raises
    ------
    AssertionError
        A client lost a hit, or got a wrong score.
    """
    context = multiprocessing.get_context("spawn")
    at_work, is_over, results = context.Semaphore(0), context.Event(), context.SimpleQueue()
    arguments = (url, model, policy, options, at_work, is_over, results)
    processes = [context.Process(target=_client, args=arguments, daemon=True) for _ in range(n)]
    for process in processes:
        process.start()
    for _ in processes:
        assert at_work.acquire(timeout=HANGS_AFTER_S), "a client does not begin"
    start = time.monotonic()
    time.sleep(seconds)
    end = time.monotonic()
    is_over.set()
    works = [results.get() for _ in processes]
    for process in processes:
        process.join()
    failed = [work for work in works if isinstance(work, str)]
    assert not failed, failed[0]
    return [
        # The clock of all processes of a machine is the same.
        replace(work.share, hits=sum(hits for at, hits in work.chunks if start <= at < end))
        for work in works
    ]


@dataclass(frozen=True)
class _Work:
    """What a client got, and when: times and numbers of hits."""

    share: Share
    chunks: list[tuple[float, int]]


def _client(
    url: str, model: Path, policy: Any, options: dict[str, Any], at_work: Any, is_over: Any, results: Any
) -> None:
    try:
        work: _Work | str = _score_until(is_over, url, model, policy, options, at_work)
    except BaseException as error:  # noqa: BLE001  (the parent raises it)
        work = repr(error)
        at_work.release()
    results.put(work)


def _score_until(
    is_over: Any, url: str, model: Path, policy: Any, options: dict[str, Any], at_work: Any
) -> _Work:
    patches = sparse_patches(REQUEST_PATCHES)
    backend = OnnxRuntimeBackend(model, threads=1)
    expected = backend.infer(patches)
    dispatcher = Dispatcher(policy, [endpoint(url, **options)], lambda: backend)
    n_given = scored = 0
    chunks: list[tuple[float, int]] = []

    def batches() -> Iterator[NDArray[np.float32]]:
        nonlocal n_given
        while not is_over.is_set():
            n_given += len(patches)
            yield patches

    for scores, _ in dispatcher.score(batches()):
        # Chunks are pieces of batches, in order.
        places = np.arange(scored, scored + len(scores)) % len(patches)
        assert np.abs(scores - expected[places]).max() <= TOLERANCE, "a wrong score"
        if not scored:
            at_work.release()
        scored += len(scores)
        chunks.append((time.monotonic(), len(scores)))
    dispatcher.close()
    assert scored == n_given, f"{n_given} hits were given and {scored} came back"
    [statistics] = dispatcher.statistics
    overloads = statistics.faults_by_class["overload"]
    return _Work(Share(0, scored, dispatcher.cpu_patches, overloads, statistics.n_faults), chunks)


def best_by_hand(url: str, seconds: float, concurrencies: tuple[int, ...] = (2, 4, 8, 16)) -> float:
    """Find the most patches/s that plain requests get, whatever their number under way; canaries count here."""
    patches = sparse_patches(REQUEST_PATCHES + 2)
    best = 0.0
    for concurrency in concurrencies:
        client = TritonClient(endpoint(url))
        request = client.prepare(patches)
        places, answered = threading.Semaphore(concurrency), [0]
        start = time.monotonic()

        def count(outcome: Any, places: threading.Semaphore = places, answered: list[int] = answered) -> None:
            answered[0] += isinstance(outcome, Answer)
            places.release()

        while time.monotonic() < start + seconds:
            places.acquire()
            client.send(request, count)
        best = max(best, answered[0] * len(patches) / (time.monotonic() - start))
        for _ in range(concurrency):
            places.acquire()
        client.close()
    return best


class QueueWatch:
    """Notes the longest queue of a server while it is used."""

    def __init__(self, server: FaultyServer) -> None:
        self.longest = 0.0
        self._server = server
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(0.5):
            self.longest = max(self.longest, self._server.pending)


def throttled_server(
    folder: Path, model: Path, patches_per_s: float, *, max_queue_size: int = 0, instances: int = 1
) -> FaultyServer:
    """Make a server that scores so many patches a second, like a device that does not share our cores."""
    # With batches that one request fills, this Triton may wait for half a second before it begins the next one.
    repository = Repository(
        folder / "repository",
        model,
        max_batch_size=1024,
        max_queue_size=max_queue_size,
        instances=instances,
    )
    repository.control(seconds_per_patch=instances / patches_per_s)
    return FaultyServer(repository, folder)


def write_costly_model(path: Path, linear: Path) -> None:
    """Write a model with the scores of a linear one and the cost of the network: linear + 0 × network."""
    network = compose.add_prefix(untrained_model(), "cnn_")
    cheap = compose.add_prefix(onnx.load(linear), "linear_")
    cheap.ir_version = network.ir_version
    del cheap.opset_import[:]
    cheap.opset_import.extend(network.opset_import)
    merged = compose.merge_models(network, cheap, io_map=[])
    graph = merged.graph
    graph.node.insert(0, helper.make_node("Identity", ["main_input"], ["cnn_main_input"]))
    graph.node.insert(0, helper.make_node("Identity", ["main_input"], ["linear_main_input"]))
    del graph.input[:], graph.output[:]
    shape = ["N", 48, 48, 1]
    graph.input.append(helper.make_tensor_value_info("main_input", TensorProto.FLOAT, shape))
    graph.initializer.append(numpy_helper.from_array(np.array([1e-30], np.float32), "tiny"))
    for name, width in (("em_trk_none_netout", 3), ("michel_netout", 1)):
        graph.node.append(helper.make_node("Mul", [f"cnn_{name}", "tiny"], [f"nothing_{name}"]))
        graph.node.append(helper.make_node("Add", [f"linear_{name}", f"nothing_{name}"], [name]))
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width]))
    onnx.save(merged, path)


def rate(policy: Any, url: str, model: Path, hits: int, *, threads: int = 2) -> float:
    """Measure the hits/s of one job, once everything is warm."""
    patches = sparse_patches(REQUEST_PATCHES)
    dispatcher = Dispatcher(policy, [endpoint(url)], lambda: OnnxRuntimeBackend(model, threads))

    def batches(n: int) -> Iterator[NDArray[np.float32]]:
        for _ in range(n // len(patches)):
            yield patches

    for _ in dispatcher.score(batches(3000)):
        pass
    start = time.monotonic()
    n = sum(len(scores) for scores, _ in dispatcher.score(batches(hits)))
    seconds = time.monotonic() - start
    dispatcher.close()
    return n / seconds
