"""What crosses the network for each hit, and how fast: protosonic against the ways in which others send patches.

All clients score the same hits at the same genuine Triton server, each in a process of its own, through a proxy that
counts the bytes and, where it says so, imposes the round trip and the bandwidth of the paper (arXiv:2009.04509): 12 ms
and 1 Gb/s. So that neither the server nor its CPU is the limit, the server emulates a device of a given rate: it keeps
what a request was answered and sleeps as long as the device would take. With ``--device 0`` it computes the published
network on the CPU instead, and is the limit of all. The ceiling of the server is what ready-made image requests get from
it over loopback, at the best number under way. The clients:

* protosonic, as in a campaign, with the payloads ``image`` and ``patches``;
* like NuSONIC: blocking, 256 patches a request, one request under way;
* a plain loop over tritonclient, blocking, 1,024 patches a request;
* without any server: bare ONNX Runtime with two threads, and the CPU of protosonic.

Needs the test environment (`make test`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime
import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from common import report, run
from cpu_engine import PROFILE, peak_mb, read_unit
from integration.faults.proxy import FaultProxy
from protosonic.events.reader import ReaderOptions
from protosonic.images.profiles import load_profile
from protosonic.inference.cpu_backend import load_cpu_backend
from protosonic.inference.dispatcher import Dispatcher
from protosonic.inference.endpoint_options import IMAGE_SUFFIX, EndpointOptions
from protosonic.inference.golden import Reference
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.inference.triton_client import TritonClient
from protosonic.inference.untrained import write_untrained_model
from protosonic.serving.environment import find_or_create_environment
from protosonic.serving.repository import PAYLOADS, ServedModel, write_repository
from protosonic.serving.server import Ports, TritonServer, choose_ports
from protosonic.stages.infer import hit_batches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from protosonic.images.unit import UnitEvent
    from protosonic.inference.hits import HitBatch

Score = Callable[[int], int]
"""Scores so many equal events and gives the number of hits."""

NAME = "cnn"
REQUEST_HITS = 4096
LOCAL_HITS = 8192
"""Of an event, where there is no server."""
DEVICE = Path(__file__).parents[1] / "tests" / "integration" / "faults" / "device_model.py"
ROUND_TRIP_S, BYTES_PER_S = 12e-3, 125e6
PATCHES_PER_NUSONIC_REQUEST = 256
PATCHES_PER_LARGE_REQUEST = 1024


def hits_of(unit: UnitEvent) -> HitBatch:
    """Give all hits of an event, as the infer stage does."""
    [hits, *_] = hit_batches([unit], load_profile(PROFILE), 1, blank_duplicates=False)
    return hits


def with_protosonic(url: str, model: Path, unit: UnitEvent, payload: Any) -> Score:
    """Give a function that scores the hits of so many equal events, with a client that lives on."""
    options = EndpointOptions(url, model=NAME, version="1", payload=payload)
    dispatcher = Dispatcher("endpoint-only", [options], lambda: OnnxRuntimeBackend(model, threads=1))
    hits = hits_of(unit)

    def score(events: int) -> int:
        return sum(len(scores) for scores, _ in dispatcher.score([hits] * events))

    return score


def with_tritonclient(url: str, model: Path, unit: UnitEvent, size: int) -> Score:  # noqa: ARG001
    """Give the same with Triton's own client, one request after the other; patches are cut for each request."""
    from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput

    client = InferenceServerClient(url.removeprefix("grpc://"))
    hits = hits_of(unit)
    outputs = [InferRequestedOutput(name) for name in ("em_trk_none_netout", "michel_netout")]

    def score(events: int) -> int:
        n = 0
        for first in [*range(0, len(hits), size)] * events:
            patches = hits.cut(first, size).patches()[..., None]
            tensor = InferInput("main_input", patches.shape, "FP32")
            tensor.set_data_from_numpy(patches)
            n += len(client.infer(NAME, [tensor], "1", outputs).as_numpy("michel_netout"))
        return n

    return score


def with_bare_onnxruntime(url: str, model: Path, unit: UnitEvent, size: int) -> Score:  # noqa: ARG001
    """Give the same without a server."""
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(str(model), session_options, providers=["CPUExecutionProvider"])
    hits = hits_of(unit).cut(0, LOCAL_HITS)

    def score(events: int) -> int:
        starts = [*range(0, len(hits), size)] * events
        return sum(
            len(session.run(None, {"main_input": hits.cut(first, size).patches()[..., None]})[0])
            for first in starts
        )

    return score


def with_own_cpu(url: str, model: Path, unit: UnitEvent, threads: int) -> Score:  # noqa: ARG001
    """Give the same with the CPU of protosonic."""
    dispatcher = Dispatcher("cpu-only", [], lambda: load_cpu_backend(model, threads))
    hits = hits_of(unit).cut(0, LOCAL_HITS)

    def score(events: int) -> int:
        return sum(len(scores) for scores, _ in dispatcher.score([hits] * events))

    return score


CLIENTS: dict[str, tuple[Callable[..., Score], Any]] = {
    "protosonic, image": (with_protosonic, "image"),
    "protosonic, patches": (with_protosonic, "patches"),
    "like NuSONIC": (with_tritonclient, PATCHES_PER_NUSONIC_REQUEST),
    "tritonclient, large": (with_tritonclient, PATCHES_PER_LARGE_REQUEST),
}
LOCAL: dict[str, tuple[Callable[..., Score], Any]] = {
    "bare ONNX Runtime": (with_bare_onnxruntime, 256),
    "protosonic, CPU": (with_own_cpu, 2),
}


class Process:
    """A client in a process of its own, connected and warm."""

    def __init__(self, client: str, url: str, model: Path, unit: UnitEvent) -> None:
        self._process = ProcessPoolExecutor(
            1, mp_context=get_context("spawn"), initializer=_start, initargs=(client, url, model, unit)
        )
        self.score(1)

    def score(self, events: int) -> tuple[int, float, float, float]:
        """Score so many events: hits, seconds, CPU seconds and peak memory in MB."""
        result: tuple[int, float, float, float] = self._process.submit(_score, events).result()
        return result

    def close(self) -> None:
        """End the process, whatever it still holds."""
        for process in list(self._process._processes.values()):
            process.kill()


_scorer: list[Score] = []


def _start(client: str, url: str, model: Path, unit: UnitEvent) -> None:
    make, argument = (CLIENTS | LOCAL)[client]
    _scorer.append(make(url, model, unit, argument))


def _score(events: int) -> tuple[int, float, float, float]:
    wall, cpu = time.monotonic(), time.process_time()
    hits = _scorer[0](events)
    return hits, time.monotonic() - wall, time.process_time() - cpu, peak_mb()


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Sum up what processes have used."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def measure(
    client: str,
    network: str,
    proxy: FaultProxy,
    server: TritonServer,
    model: Path,
    unit: UnitEvent,
    seconds: float,
) -> dict[str, Any]:
    """Measure one client for about so long."""
    print(f"{client}, network {network}", file=sys.stderr, flush=True)
    process = Process(client, proxy.url, model, unit)
    try:
        _, needed, *_ = process.score(2)
        events = max(int(2 * seconds / needed), 1)
        tree = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        up, down, used = proxy.bytes_up, proxy.bytes_down, cpu_seconds(tree)
        hits, needed, cpu, memory = process.score(events)
        used = cpu_seconds(tree) - used
        return {
            "network": network,
            "client": client,
            "hits/s": round(hits / needed),
            "up [B/hit]": (proxy.bytes_up - up) / hits,
            "down [B/hit]": (proxy.bytes_down - down) / hits,
            "client [CPU us/hit]": 1e6 * cpu / hits,
            "server [CPU us/hit]": 1e6 * used / hits,
            "peak [MB]": round(memory),
        }
    finally:
        process.close()


def ceiling(server: TritonServer, model: Path, unit: UnitEvent, seconds: float) -> float:
    """Measure the hits/s of ready-made image requests at the best number under way, over loopback."""
    client = TritonClient(EndpointOptions(server.url, NAME + IMAGE_SUFFIX, "1"))
    client.read_tensors()
    hits = hits_of(unit)
    reference = Reference(OnnxRuntimeBackend(model, threads=1).infer, 1e-5)
    requests = [
        client.prepare_hits(hits.cut(first, REQUEST_HITS), reference)
        for first in range(0, len(hits) - REQUEST_HITS + 1, REQUEST_HITS)
    ]
    best = 0.0
    for under_way in (0, 2, 4, 8):  # the first is for warming up
        with ThreadPoolExecutor(under_way or 1) as pool:
            start, n = time.monotonic(), 0
            while time.monotonic() < start + seconds / 4 or not n:
                n += len(list(pool.map(client.infer, requests)))
            if under_way:
                best = max(best, n * REQUEST_HITS / (time.monotonic() - start))
    client.close()
    return best


def networks(proxy: FaultProxy) -> Iterator[str]:
    """Switch from one network to the next."""
    yield "loopback"
    proxy.behave(delay_s=ROUND_TRIP_S / 2, bytes_per_s=BYTES_PER_S)
    yield "12 ms, 1 Gb/s"


def compare(
    event: str, unit: UnitEvent, server: TritonServer, model: Path, seconds: float
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Measure all clients with one event; gives the rows of the table and the ratios."""
    rows: list[dict[str, Any]] = []
    most = ceiling(server, model, unit, seconds)
    with FaultProxy(int(server.url.rpartition(":")[2])) as proxy:
        rows += [
            {"event": event, **measure(client, "none", proxy, server, model, unit, seconds)}
            for client in LOCAL
        ]
        for network in networks(proxy):
            rows += [
                {"event": event, **measure(client, network, proxy, server, model, unit, seconds)}
                for client in CLIENTS
            ]
    by_name = {(row["network"], row["client"]): row for row in rows}
    near, far = (
        {client: by_name[network, client] for client in CLIENTS} for network in ("loopback", "12 ms, 1 Gb/s")
    )
    nusonic = far["like NuSONIC"]["hits/s"]
    # What 256 patches, the round trip and the bandwidth allow, with a server and a client that take no time at all.
    n = PATCHES_PER_NUSONIC_REQUEST
    bound = n / (ROUND_TRIP_S + n * far["like NuSONIC"]["up [B/hit]"] / BYTES_PER_S)
    image = far["protosonic, image"]
    return rows, {
        f"{event}: bytes of patches over bytes of images": near["protosonic, patches"]["up [B/hit]"]
        / image["up [B/hit]"],
        f"{event}: image over NuSONIC-like, far away": image["hits/s"] / nusonic,
        f"{event}: image over what is possible for NuSONIC": image["hits/s"] / bound,
        f"{event}: ceiling of the server [hits/s]": most,
        f"{event}: image, far away over the ceiling": image["hits/s"] / most,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hits", type=int, default=50_000, help="hits of the simulated event")
    parser.add_argument("--real", type=Path, help="the ProtoDUNE-HD frames of Wire-Cell, a .tar.bz2")
    parser.add_argument("--device", type=float, default=100_000.0, help="patches/s; 0 computes on the CPU")
    parser.add_argument("--seconds", type=float, default=8.0, help="for each client")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    facts: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        model = folder / "model.onnx"
        write_untrained_model(model)
        for payload in PAYLOADS:
            served = write_repository(folder / "models", model, ServedModel(NAME), payload=payload)
            if options.device:
                shutil.copyfile(DEVICE, served / "1" / "model.py")
                (served / "1" / "device.json").write_text(json.dumps({"patches_per_s": options.device}))
        server = stack.enter_context(
            TritonServer(
                find_or_create_environment(),
                folder / "models",
                choose_ports(Ports(0, 0, 0)),
                folder / "server.log",
            )
        )
        server.wait_until_ready(NAME)
        server.wait_until_ready(NAME + IMAGE_SUFFIX)
        run("protosonic", "simulate", folder / "data", "--events", "1", "--hits", str(options.hits))
        units = {"simulated": read_unit(next((folder / "data").glob("*.h5")), ReaderOptions())}
        if options.real:
            units["ProtoDUNE-HD"] = read_unit(
                options.real, ReaderOptions(detector="protodune-hd", charge_scale=1e-3)
            )
        for event, unit in units.items():
            more_rows, more_facts = compare(event, unit, server, model, options.seconds)
            rows += more_rows
            facts |= more_facts
    report(f"Clients at a server of {options.device or 'a CPU'} patches/s", rows, options.json, **facts)


if __name__ == "__main__":
    main()
