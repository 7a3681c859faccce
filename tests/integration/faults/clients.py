"""Many client processes at one endpoint, and what each of them got."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper

from integration.faults.servers import FaultyServer, Repository
from integration.serving import sparse_patches
from protosonic.inference.dispatcher import Dispatcher
from protosonic.inference.endpoint_options import EndpointOptions
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.inference.triton_client import Answer, TritonClient
from protosonic.inference.untrained import untrained_model

REQUEST_PATCHES = 126
"""Hits of a request; two canaries go with them."""


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
    """Run clients that begin together, and count for a time what each gets.

    Raises
    ------
    AssertionError
        A client lost a hit, or got a wrong score.
    """
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(n + 1), context.SimpleQueue()
    arguments = (url, model, seconds, policy, options, barrier, results)
    processes = [context.Process(target=_client, args=arguments, daemon=True) for _ in range(n)]
    for process in processes:
        process.start()
    barrier.wait(600)
    shares = [results.get() for _ in processes]
    for process in processes:
        process.join()
    failed = [share for share in shares if isinstance(share, str)]
    assert not failed, failed[0]
    return shares


def _client(
    url: str, model: Path, seconds: float, policy: Any, options: dict[str, Any], barrier: Any, results: Any
) -> None:
    try:
        share: Share | str = _score_for(url, model, seconds, policy, options, barrier)
    except BaseException as error:  # noqa: BLE001  (the parent raises it)
        share = repr(error)
    results.put(share)


def _score_for(
    url: str, model: Path, seconds: float, policy: Any, options: dict[str, Any], barrier: Any
) -> Share:
    patches = sparse_patches(REQUEST_PATCHES)
    backend = OnnxRuntimeBackend(model, threads=1)
    expected = backend.infer(patches)
    dispatcher = Dispatcher(policy, [endpoint(url, **options)], lambda: backend)
    barrier.wait(600)
    end = time.monotonic() + seconds
    n_given = hits = scored = 0

    def batches() -> Iterator[NDArray[np.float32]]:
        nonlocal n_given
        while time.monotonic() < end:
            n_given += len(patches)
            yield patches

    for scores, _ in dispatcher.score(batches()):
        # Chunks are pieces of batches, in order.
        places = np.arange(scored, scored + len(scores)) % len(patches)
        np.testing.assert_allclose(scores, expected[places], rtol=0, atol=1e-5)
        scored += len(scores)
        hits += len(scores) if time.monotonic() < end else 0
    dispatcher.close()
    assert scored == n_given, f"{n_given} hits were given and {scored} came back"
    [statistics] = dispatcher.statistics
    return Share(
        hits, scored, dispatcher.cpu_patches, statistics.faults_by_class["overload"], statistics.n_faults
    )


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
    folder: Path, model: Path, patches_per_s: float, *, max_queue_size: int = 0
) -> FaultyServer:
    """Make a server that scores so many patches a second, like a device that does not share our cores."""
    repository = Repository(
        folder / "repository", model, max_batch_size=REQUEST_PATCHES + 2, max_queue_size=max_queue_size
    )
    repository.control(seconds_per_patch=1 / patches_per_s)
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
