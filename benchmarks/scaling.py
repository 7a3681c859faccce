"""Real client processes at a real Triton server, more and more of them, and what the planner predicts.

The server is the genuine one with a model that takes a known time per patch without using the CPU, as a GPU would. Each
client works on one event after the other: it sleeps for the rest of the event's reconstruction, then sends the event's hits.
Adaptive clients are the package's own; blocking ones keep one request under way, as NuSONIC does. The planner is told what is
known, and is fitted to the fewest and the most clients only; the others are predicted. Needs the test environment.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from common import report
from integration.faults.clients import REQUEST_PATCHES, endpoint, throttled_server
from integration.serving import sparse_patches
from protosonic.inference.dispatcher import Dispatcher
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.planning.scan import Scan, compare, fit
from protosonic.planning.scenario import Scenario
from protosonic.planning.simulation import simulate
from support.models import linear_weights, write_linear_model

IN_FLIGHT = {"adaptive": 8, "blocking": 1}
"""Most requests of a client under way."""
LONGEST_START_S = 300.0


def client(
    url: str, model: Path, kind: str, requests: int, other_s: float, start: Any, is_over: Any, results: Any
) -> None:
    """Work on events until it is over, and give when each began and ended."""
    patches = sparse_patches(REQUEST_PATCHES)
    options = endpoint(url, max_in_flight=IN_FLIGHT[kind])
    dispatcher = Dispatcher("endpoint-only", [options], lambda: OnnxRuntimeBackend(model, threads=1))
    events: list[tuple[float, float]] = []
    list(dispatcher.score(iter([patches])))
    start.release()
    # Not in step: jobs of a cluster start at different times.
    time.sleep(other_s * float(np.random.default_rng().random()))
    while not is_over.is_set():
        time.sleep(other_s)
        begin = time.monotonic()
        n_hits = sum(len(scores) for scores, _ in dispatcher.score(iter([patches] * requests)))
        assert n_hits == requests * REQUEST_PATCHES, "hits were lost"
        events.append((begin, time.monotonic()))
    dispatcher.close()
    [statistics] = dispatcher.statistics
    own = resource.getrusage(resource.RUSAGE_SELF)
    results.put((events, statistics.n_faults, own.ru_utime + own.ru_stime))


def measure(
    url: str, model: Path, kind: str, clients: int, requests: int, other_s: float, seconds: float
) -> dict[str, Any]:
    """Run clients, and sum up the events that began and ended while all were at work."""
    context = multiprocessing.get_context("spawn")
    start, is_over, results = context.Semaphore(0), context.Event(), context.SimpleQueue()
    arguments = (url, model, kind, requests, other_s, start, is_over, results)
    processes = [context.Process(target=client, args=arguments, daemon=True) for _ in range(clients)]
    for process in processes:
        process.start()
    for _ in processes:
        assert start.acquire(timeout=LONGEST_START_S), "a client does not begin"
    time.sleep(2 * other_s)  # until the queue is as long as it gets
    begin = time.monotonic()
    time.sleep(seconds)
    end = time.monotonic()
    is_over.set()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    steps = [e - b for events, _, _ in found for b, e in events if begin <= e < end]
    return {
        "clients are": kind,
        "clients": clients,
        "events": len(steps),
        "step [s]": float(np.mean(steps)),
        "spread [s]": float(np.std(steps)),
        "events/s": len(steps) / (end - begin),
        "failures": sum(faults for _, faults, _ in found),
        "CPU of a client [s]": float(np.mean([cpu for _, _, cpu in found])),
    }


def scenario_of(kind: str, options: argparse.Namespace) -> Scenario:
    """Give what is known without a measurement."""
    return Scenario().with_changes(
        {
            "workload.hits_per_event": options.requests * REQUEST_PATCHES,
            "workload.other_s": options.other,
            # Jobs that never differ would keep the order in which they started.
            "workload.spread": 0.3,
            "clients.requests": kind,
            "clients.payload": "patches",
            "clients.hits_per_request": REQUEST_PATCHES,
            "server.max_batch_hits": 1024,
            "network.site_gbps": None,
            "network.round_trip_ms": 0.0,
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 6, 8, 12, 16, 24])
    parser.add_argument("--seconds", type=float, default=25.0, help="for each number of clients")
    parser.add_argument("--capacity", type=float, default=3000.0, help="patches/s of the server")
    parser.add_argument("--requests", type=int, default=10, help="of an event")
    parser.add_argument("--other", type=float, default=3.0, help="seconds of an event beside its hits")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    errors: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write_linear_model(folder / "linear.onnx", linear_weights())
        with throttled_server(folder, model, options.capacity) as server:
            for kind in IN_FLIGHT:
                found = [
                    measure(server.url, model, kind, n, options.requests, options.other, options.seconds)
                    for n in options.clients
                ]
                steps = np.array([row["step [s]"] for row in found])
                scan = Scan(np.array(options.clients, float), steps + options.other, steps)
                ends = Scan(*(column[[0, -1]] for column in (scan.clients, scan.event_s, scan.step_s)))
                fitted = fit(scenario_of(kind, options), ends)
                result = compare(fitted, scan)
                for row, predicted in zip(found, result.step_s.tolist(), strict=True):
                    simulated = simulate(fitted, row["clients"], events=8)
                    rows.append(row | {"predicted [s]": predicted, "simulated [s]": simulated.step_s})
                middle = np.abs(result.step_s / scan.step_s - 1)[1:-1]
                errors |= {
                    f"{kind}: mean error of the predicted": float(middle.mean()),
                    f"{kind}: knee": result.knee or float("nan"),
                    f"{kind}: measured knee": result.measured_knee or float("nan"),
                    f"{kind}: fitted hits/s": fitted.server.hits_per_s,
                }
    report(f"Clients at a server of {options.capacity:,.0f} patches/s", rows, options.json, **errors)


if __name__ == "__main__":
    main()
