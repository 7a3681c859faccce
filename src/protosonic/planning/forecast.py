"""The analytic model: what clients wait for, up to which number the endpoint keeps up, and what stops it there.

Clients and endpoint are a closed queueing network: each job works on one event at a time, and requests of all jobs share the
GPUs and the links. Mean value analysis (M. Reiser and S. S. Lavenberg, J. ACM 27 (1980) 313) gives the waiting: one more
client finds the queues that the others make. It is exact where a resource serves its requests in turn or at once and jobs are
independent, whatever the distribution of times; several GPUs with one queue count as one fast GPU and a delay (A. Seidmann et al.,
1987). Beyond the knee an event takes as long as the busiest resource needs to serve one event of every client.

:func:`sonic_time` is the model that was published with the measurements of arXiv:2009.04509 (``model.py`` of nuSONIC): nobody waits
before the GPUs are busy all the time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from protosonic.planning.scenario import SCORE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from protosonic.planning.scenario import Scenario

__all__ = ["Forecast", "capacities", "forecast", "forecasts", "knee", "sonic_time", "step_alone_s"]

CLIENTS = "clients"
"""What limits below the knee: there are too few clients to keep anything busy all the time."""


@dataclass(frozen=True)
class Forecast:
    """What a number of clients can do.

    Attributes
    ----------
    clients
        Jobs at the same time.
    step_s
        Seconds that a job spends on the classification of an event: preparation, network, queue and computing.
    event_s
        Seconds that a job spends on an event in all.
    events_per_s
        Of all jobs together.
    limit
        What is busy all the time: ``gpus``, ``ingress``, ``site links``, or ``clients`` below the knee.
    """

    clients: float
    step_s: float
    event_s: float
    events_per_s: float
    limit: str


def request_s(scenario: Scenario) -> float:
    """Seconds from sending a request to its answer at an endpoint with nothing else to do."""
    hits = min(scenario.clients.hits_per_request, scenario.workload.hits_per_event)
    network = scenario.network
    bits = 8 * scenario.clients.sent_per_hit * hits
    links = (network.client_gbps, network.site_gbps, scenario.server.ingress_gbps)
    transfer_s = max((bits / (1e9 * gbps) for gbps in links if gbps is not None), default=0.0)
    return transfer_s + network.round_trip_ms / 1e3 + gpu_s_per_request(scenario)


def step_alone_s(scenario: Scenario) -> float:
    """Seconds of the classification of an event of a client that has the endpoint to itself.

    A blocking client waits for each answer. An adaptive one hides everything behind what is slowest: its own
    preparation, its link, or one GPU; but not its last request.
    """
    n = scenario.requests_per_event
    prepare_s = scenario.workload.prepare_s
    if scenario.clients.requests == "blocking":
        return prepare_s + n * request_s(scenario)
    links = (scenario.network.client_gbps, scenario.network.site_gbps, scenario.server.ingress_gbps)
    ways = [scenario.bits_per_event / (1e9 * gbps) for gbps in links if gbps is not None]
    computing_s = n * gpu_s_per_request(scenario) / min(scenario.server.gpus, n)
    slowest = max(prepare_s, computing_s, *ways)
    return slowest + request_s(scenario)


def gpu_s_per_request(scenario: Scenario) -> float:
    """Seconds of a GPU for a request that is computed alone."""
    hits = min(scenario.clients.hits_per_request, scenario.workload.hits_per_event)
    return scenario.server.request_overhead_ms / 1e3 + hits / scenario.server.hits_per_s


def capacities(scenario: Scenario) -> dict[str, float]:
    """Give the events/s that each resource can serve when it is busy all the time."""
    server, network = scenario.server, scenario.network
    n = scenario.requests_per_event
    if server.dynamic_batching:
        # Requests that wait are computed together, as many as a batch takes.
        calls = max(n * min(scenario.clients.hits_per_request / server.max_batch_hits, 1.0), 1e-9)
    else:
        calls = n
    event_s = calls * server.request_overhead_ms / 1e3 + scenario.workload.hits_per_event / server.hits_per_s
    found = {"gpus": server.gpus / event_s}
    if server.ingress_gbps is not None:
        found["ingress"] = 1e9 * server.ingress_gbps / scenario.bits_per_event
    if network.site_gbps is not None:
        found["site links"] = 1e9 * network.site_gbps * network.sites / scenario.bits_per_event
    return found


def knee(scenario: Scenario) -> float:
    """Give the number of clients whose events alone would keep the busiest resource busy: there waiting takes over."""
    return min(capacities(scenario).values()) * (step_alone_s(scenario) + scenario.workload.other_s)


def forecast(scenario: Scenario, clients: float) -> Forecast:
    """Predict what a number of clients does."""
    return forecasts(scenario, [clients])[0]


def forecasts(scenario: Scenario, clients: Sequence[float]) -> list[Forecast]:
    """Predict what several numbers of clients do, at the cost of the largest; fractions are interpolated."""
    most = math.ceil(max(clients))
    event_s = np.array(_event_s(scenario, most))
    found = capacities(scenario)
    busiest = min(found, key=lambda name: found[name])
    at_knee = knee(scenario)
    results = []
    for n in clients:
        seconds = float(np.interp(n, np.arange(1, most + 1), event_s))
        results.append(
            Forecast(
                clients=n,
                step_s=seconds - scenario.workload.other_s,
                event_s=seconds,
                events_per_s=n / seconds,
                limit=busiest if n > at_knee else CLIENTS,
            )
        )
    return results


def _event_s(scenario: Scenario, most: int) -> list[float]:
    """Give the seconds of an event with 1, 2, … clients."""
    alone_s = step_alone_s(scenario) + scenario.workload.other_s
    # Of each resource: seconds by which an event in its queue delays another, and that it serves an event.
    own = _served_s(scenario)
    resources = [(1 / capacity, own[name]) for name, capacity in capacities(scenario).items()]
    queues = [0.0] * len(resources)
    found = []
    for n in range(1, most + 1):
        waits = [delay * queue for (delay, _), queue in zip(resources, queues, strict=True)]
        found.append(alone_s + sum(waits))
        queues = [n * (served + wait) / found[-1] for (_, served), wait in zip(resources, waits, strict=True)]
    return found


def _served_s(scenario: Scenario) -> dict[str, float]:
    """Seconds for which each resource works on an event of a client that has it to itself."""
    n = scenario.requests_per_event
    computing_s = n * gpu_s_per_request(scenario)
    if scenario.clients.requests == "adaptive":
        computing_s /= min(scenario.server.gpus, n)
    links = {"ingress": scenario.server.ingress_gbps, "site links": scenario.network.site_gbps}
    transfers = {name: scenario.bits_per_event / (1e9 * gbps) for name, gbps in links.items() if gbps}
    return {"gpus": computing_s} | transfers


def received_gbps(scenario: Scenario, events_per_s: float) -> float:
    """Gb/s of scores that come back to all clients."""
    return events_per_s * 8 * SCORE_BYTES * scenario.workload.hits_per_event / 1e9


PUBLISHED: Mapping[str, float] = {
    "t_cpu": 330.0,
    "p": 0.65,
    "t_gpu": 1.77,
    "t_preprocess": 7.0,
    "t_transmit": 2.05,
    "t_travel": 0.38,
}
"""Constants of the published model in seconds, for 4 GPUs and batches of 1,720 patches. With batches of 235 `t_travel` is 2.6,
and `t_gpu` 2.5 without dynamic batching."""


def sonic_time(
    clients: float,
    gpus: int,
    *,
    t_cpu: float = PUBLISHED["t_cpu"],
    p: float = PUBLISHED["p"],
    t_gpu: float = PUBLISHED["t_gpu"],
    t_preprocess: float = PUBLISHED["t_preprocess"],
    t_transmit: float = PUBLISHED["t_transmit"],
    t_travel: float = PUBLISHED["t_travel"],
) -> tuple[float, float]:
    """Evaluate the published model as its code does, with the preparation outside of ``t_ideal``.

    Returns
    -------
    Seconds of an event in all, and of its classification.
    """
    t_latency = t_transmit + t_travel
    t_ideal = (1 - p) * t_cpu + t_gpu + t_latency
    step = t_gpu * (1 + max(0.0, clients / gpus - t_ideal / t_gpu)) + t_latency + t_preprocess
    return (1 - p) * t_cpu + step, step
