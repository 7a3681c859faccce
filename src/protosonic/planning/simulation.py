"""The simulation: clients, links and GPUs as processes in time (SimPy), with batching, queues, refusals and adaptive clients.

The limit of adaptive clients is the one that real clients have (:mod:`protosonic.inference.concurrency`).
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import simpy

from protosonic.inference.concurrency import AdaptiveLimit
from protosonic.inference.endpoint_options import EndpointOptions

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from protosonic.planning.scenario import Scenario

__all__ = ["Simulated", "simulate"]

MOST_REQUESTS = 150_000
"""Of a simulation; of larger ones a part with the same number of clients for each GPU stands for all."""
REFUSED_PAUSE_S = 0.1
"""After which a refused request is sent again, unless the limit asks for more."""


@dataclass
class Simulated:
    """What a number of clients did, in a steady state.

    Attributes
    ----------
    clients
        Jobs at the same time.
    step_s, event_s
        Mean seconds of the classification of an event, and of an event in all.
    events_per_s
        Of all jobs together.
    gpu_busy
        Share of the time that GPUs computed.
    refused
        Requests that were refused because too many waited, for each that was answered.
    hits_per_call
        Mean hits of a call of the model.
    """

    clients: int
    step_s: float
    event_s: float
    events_per_s: float
    gpu_busy: float
    refused: float
    hits_per_call: float


@dataclass
class _Request:
    hits: float
    answered: simpy.Event


@dataclass
class _Server:
    """GPUs that take requests from one queue in order of arrival."""

    env: simpy.Environment
    scenario: Scenario
    gpus: int
    waiting: deque[_Request] = field(default_factory=deque)
    idle: list[simpy.Event] = field(default_factory=list)
    busy_s: float = 0.0
    calls: int = 0
    hits: float = 0.0
    refused: int = 0
    answered: int = 0

    def __post_init__(self) -> None:
        for _ in range(self.gpus):
            self.env.process(self._gpu())

    def submit(self, hits: float) -> simpy.Event | None:
        """Queue a request, or refuse it."""
        most = self.scenario.server.max_queue
        if most is not None and len(self.waiting) >= most:
            self.refused += 1
            return None
        request = _Request(hits, self.env.event())
        self.waiting.append(request)
        if self.idle:
            self.idle.pop().succeed()
        return request.answered

    def _gpu(self) -> Generator[simpy.Event, Any, None]:
        server = self.scenario.server
        while True:
            if not self.waiting:
                wake = self.env.event()
                self.idle.append(wake)
                yield wake
                continue
            batch = [self.waiting.popleft()]
            hits = batch[0].hits
            while (
                server.dynamic_batching
                and self.waiting
                and hits + self.waiting[0].hits <= server.max_batch_hits
            ):
                batch.append(self.waiting.popleft())
                hits += batch[-1].hits
            seconds = server.request_overhead_ms / 1e3 + hits / server.hits_per_s
            yield self.env.timeout(seconds)
            self.busy_s += seconds
            self.calls += 1
            self.hits += hits
            self.answered += len(batch)
            for request in batch:
                request.answered.succeed()


class _Link:
    """A link that sends one message after the other."""

    def __init__(self, env: simpy.Environment, gbps: float | None) -> None:
        self._env, self._gbps = env, gbps
        self._line = simpy.Resource(env)

    def send(self, n_bytes: float) -> Generator[simpy.Event, Any, None]:
        if self._gbps is None:
            return
        with self._line.request() as turn:
            yield turn
            yield self._env.timeout(8 * n_bytes / (1e9 * self._gbps))


class _Client:
    """A job: one event after the other; the part beside the classification first."""

    def __init__(
        self, env: simpy.Environment, scenario: Scenario, server: _Server, links: Sequence[_Link], seed: str
    ) -> None:
        self.env, self.scenario, self.server = env, scenario, server
        self.ways = [_Link(env, scenario.network.client_gbps), *links]
        self.random = random.Random(seed)  # noqa: S311 (no secret)
        usual = EndpointOptions("grpc://usual:8001")
        self.limit = AdaptiveLimit(usual.max_in_flight, usual.latency_target_s, clock=lambda: float(env.now))
        self.in_flight = 0
        self.room: simpy.Event | None = None
        self.steps: list[tuple[float, float, float]] = []

    def run(self, start_s: float) -> Generator[simpy.Event, Any, None]:
        yield self.env.timeout(start_s)
        work = self.scenario.workload
        while True:
            begin = self.env.now
            yield self.env.timeout(self._spread(work.other_s))
            step_begins = self.env.now
            yield from self._classify(self._spread(work.prepare_s))
            self.steps.append((begin, step_begins, self.env.now))

    def _classify(self, prepare_s: float) -> Generator[simpy.Event, Any, None]:
        n = self.scenario.requests_per_event
        sizes = [1.0] * int(n) + ([n - int(n)] if n > int(n) else [])
        hits = self.scenario.workload.hits_per_event / n
        pending = []
        for share in sizes:
            yield self.env.timeout(prepare_s * share / n)
            if self.scenario.clients.requests == "blocking":
                yield from self._ask(hits * share)
                continue
            while self.in_flight >= self.limit.limit:
                self.room = self.env.event()
                yield self.room
            self.in_flight += 1
            pending.append(self.env.process(self._ask_beside(hits * share)))
        if pending:
            yield self.env.all_of(pending)

    def _ask_beside(self, hits: float) -> Generator[simpy.Event, Any, None]:
        yield from self._ask(hits)
        self.in_flight -= 1
        if self.room is not None and not self.room.triggered:
            self.room.succeed()

    def _ask(self, hits: float) -> Generator[simpy.Event, Any, None]:
        half = self.scenario.network.round_trip_ms / 2e3
        while True:
            sent_at, in_flight = float(self.env.now), max(self.in_flight, 1)
            for way in self.ways:
                yield from way.send(self.scenario.clients.sent_per_hit * hits)
            yield self.env.timeout(half)
            answer = self.server.submit(hits)
            if answer is not None:
                yield answer
            yield self.env.timeout(half)
            if answer is not None:
                self.limit.on_success(float(self.env.now) - sent_at, in_flight, sent_at=sent_at)
                return
            self.limit.on_overload(sent_at=sent_at)
            pause = max(self.limit.pace_s(REFUSED_PAUSE_S), REFUSED_PAUSE_S)
            yield self.env.timeout(pause * self.random.uniform(0.5, 1.5))

    def _spread(self, mean: float) -> float:
        """Draw a time: log-normal, with the spread of the scenario."""
        sigma = math.sqrt(math.log1p(self.scenario.workload.spread**2))
        return mean * math.exp(sigma * self.random.gauss() - sigma**2 / 2) if mean else 0.0


def simulate(scenario: Scenario, clients: int, *, events: int = 4, seed: int = 1) -> Simulated:
    """Simulate clients until each has done some events; the first of each is for warming up.

    Parameters
    ----------
    scenario
        What is planned.
    clients
        Jobs at the same time.
    events
        Events of each that count, on average.
    seed
        Equal seeds give equal results.
    """
    part = _part(scenario, clients, events)
    gpus = max(round(scenario.server.gpus * part), 1)
    shown = max(round(clients * gpus / scenario.server.gpus), 1)
    part = shown / clients
    env = simpy.Environment()
    server = _Server(env, scenario, gpus)
    network = scenario.network
    n_sites = min(network.sites, shown)
    share = part * network.sites / n_sites
    sites = [_Link(env, network.site_gbps and network.site_gbps * share) for _ in range(n_sites)]
    ingress = _Link(env, scenario.server.ingress_gbps and scenario.server.ingress_gbps * part)
    jobs = [
        _Client(env, scenario, server, (sites[i % n_sites], ingress), f"{seed}/{i}") for i in range(shown)
    ]
    # Jobs start at different times: on a cluster they do, and in step they would wait for each other for ever.
    first_s = scenario.workload.other_s + scenario.workload.prepare_s
    for number, job in enumerate(jobs):
        env.process(job.run(first_s * number / shown))
    while sum(len(job.steps) for job in jobs) < 2 * shown:
        env.step()
    begin, busy, calls, hits = env.now, server.busy_s, server.calls, server.hits
    refused, answered = server.refused, server.answered
    for job in jobs:
        job.steps.clear()
    while sum(len(job.steps) for job in jobs) < events * shown:
        env.step()
    seconds = env.now - begin
    done = [step for job in jobs for step in job.steps]
    return Simulated(
        clients=clients,
        step_s=sum(end - middle for _, middle, end in done) / len(done),
        event_s=sum(end - start for start, _, end in done) / len(done),
        events_per_s=len(done) / seconds / part,
        gpu_busy=min((server.busy_s - busy) / seconds / gpus, 1.0),
        refused=(server.refused - refused) / max(server.answered - answered, 1),
        hits_per_call=(server.hits - hits) / max(server.calls - calls, 1),
    )


def _part(scenario: Scenario, clients: int, events: int) -> float:
    """Give the part of a large campaign that is simulated: with whole GPUs, or all of it."""
    requests = clients * scenario.requests_per_event * (events + 2)
    return min(1.0, max(MOST_REQUESTS / requests, 1 / scenario.server.gpus))
