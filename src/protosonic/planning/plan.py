"""A plan: what a scenario gives, what limits it, and what would help."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from protosonic.planning.forecast import capacities, forecast, forecasts, knee, received_gbps, step_alone_s
from protosonic.planning.simulation import Simulated, simulate

if TYPE_CHECKING:
    from protosonic.planning.forecast import Forecast
    from protosonic.planning.scenario import Scenario

__all__ = ["CapacityPlan", "Change", "CpuOnly", "make_plan", "plan_as_dict"]

LEAST_GAIN = 1.03
CURVE_POINTS = 60


@dataclass(frozen=True)
class Change:
    """A change of the scenario, and what it would do.

    Attributes
    ----------
    what
        In words.
    keys
        The keys of the scenario and their new values.
    gain
        Events/s with as many clients over those without the change.
    knee
        Clients at the knee with it.
    """

    what: str
    keys: dict[str, Any]
    gain: float
    knee: float


@dataclass(frozen=True)
class CpuOnly:
    """The same events without an endpoint, on as many cores.

    Attributes
    ----------
    events_per_s, wall_hours, core_hours
        Of the campaign.
    cost
        In the currency of the scenario; ``None`` without a price.
    """

    events_per_s: float
    wall_hours: float
    core_hours: float
    cost: float | None


@dataclass(frozen=True)
class CapacityPlan:
    """What a scenario gives.

    Attributes
    ----------
    scenario
        What was planned.
    forecast
        With the planned number of clients.
    alone_s
        Seconds of the classification of an event of a client that has the endpoint to itself.
    knee, clients_per_gpu
        Clients from which on they wait for each other, in all and for each GPU.
    capacities
        Events/s that each resource can serve.
    site_gbps, received_gbps
        Gb/s that each site sends, and that come back to all.
    wall_hours, core_hours, gpu_hours
        Of the campaign; cores are held also while they wait.
    cost
        In the currency of the scenario; ``None`` without prices.
    cpu_only
        The same without an endpoint.
    changes
        What would help, the best first.
    simulated
        What the simulation gives for the same number of clients; ``None`` where it was not wanted.
    """

    scenario: Scenario
    forecast: Forecast
    alone_s: float
    knee: float
    clients_per_gpu: float
    capacities: dict[str, float]
    site_gbps: float
    received_gbps: float
    wall_hours: float
    core_hours: float
    gpu_hours: float
    cost: float | None
    cpu_only: CpuOnly
    changes: list[Change] = field(default_factory=list)
    simulated: Simulated | None = None

    @property
    def curve(self) -> list[Forecast]:
        """Forecasts from one client to three times the knee or the planned number, whichever is more."""
        most = 3 * max(self.knee, 2.0)
        most = max(most, 1.2 * self.forecast.clients)
        return forecasts(self.scenario, [1 + (most - 1) * i / CURVE_POINTS for i in range(CURVE_POINTS + 1)])


def make_plan(scenario: Scenario, *, with_simulation: bool = False, seed: int = 1) -> CapacityPlan:
    """Work out a plan; without a number of clients it takes as many as the knee."""
    at_knee = knee(scenario)
    clients = scenario.clients.number or max(math.floor(at_knee), 1)
    at = forecast(scenario, clients)
    hours = scenario.workload.events / at.events_per_s / 3600
    gpu_hours = hours * scenario.server.gpus
    return CapacityPlan(
        scenario=scenario,
        forecast=at,
        alone_s=step_alone_s(scenario),
        knee=at_knee,
        clients_per_gpu=at_knee / scenario.server.gpus,
        capacities=capacities(scenario),
        site_gbps=at.events_per_s * scenario.bits_per_event / scenario.network.sites / 1e9,
        received_gbps=received_gbps(scenario, at.events_per_s),
        wall_hours=hours,
        core_hours=hours * clients,
        gpu_hours=gpu_hours,
        cost=_cost(scenario, hours * clients, gpu_hours),
        cpu_only=_cpu_only(scenario, clients),
        changes=_changes(scenario, at),
        simulated=simulate(scenario, clients, seed=seed) if with_simulation else None,
    )


def plan_as_dict(plan: CapacityPlan) -> dict[str, Any]:
    """Give a plan as plain values for JSON, with the curve."""
    content = asdict(plan) | {"scenario": plan.scenario.model_dump()}
    return content | {"curve": [asdict(point) for point in plan.curve]}


def _cost(scenario: Scenario, core_hours: float, gpu_hours: float) -> float | None:
    prices = scenario.cost
    if prices.core_hour is None or (gpu_hours and prices.gpu_hour is None):
        return None
    return core_hours * prices.core_hour + gpu_hours * (prices.gpu_hour or 0.0)


def _cpu_only(scenario: Scenario, cores: int) -> CpuOnly:
    events_per_s = cores / scenario.cpu_only_s
    hours = scenario.workload.events / events_per_s / 3600
    return CpuOnly(events_per_s, hours, hours * cores, _cost(scenario, hours * cores, 0.0))


def _changes(scenario: Scenario, at: Forecast) -> list[Change]:
    """Try everything that people can change, and keep what helps with the planned clients."""
    server, network, clients = scenario.server, scenario.network, scenario.clients
    candidates: list[tuple[str, dict[str, Any]]] = [
        (f"{2 * server.gpus} GPUs instead of {server.gpus}", {"server.gpus": 2 * server.gpus}),
        ("twice as many clients", {"clients.number": 2 * at.clients}),
        ("no seconds beside the classification", {"workload.other_s": 0.0}),
        ("preparation in half the time", {"workload.prepare_s": scenario.workload.prepare_s / 2}),
    ]
    if clients.payload == "patches":
        image = {"clients.payload": "image", "clients.bytes_per_hit": None}
        candidates.append(("images instead of patches", image))
    if clients.requests == "blocking":
        candidates.append(("several requests under way instead of one", {"clients.requests": "adaptive"}))
    if clients.hits_per_request < 4096:
        candidates.append(("requests of 4,096 hits", {"clients.hits_per_request": 4096}))
    if not server.dynamic_batching and server.request_overhead_ms:
        candidates.append(("dynamic batching", {"server.dynamic_batching": True}))
    links = [
        ("server.ingress_gbps", "into the servers", server.ingress_gbps),
        ("network.site_gbps", "out of each site", network.site_gbps),
        ("network.client_gbps", "of each job", network.client_gbps),
    ]
    candidates += [
        (f"{2 * gbps:g} Gb/s {where} instead of {gbps:g}", {key: 2 * gbps})
        for key, where, gbps in links
        if gbps is not None
    ]
    found = []
    for what, keys in candidates:
        changed = scenario.with_changes(keys)
        number = keys.get("clients.number", at.clients)
        gain = forecast(changed, number).events_per_s / at.events_per_s
        if gain >= LEAST_GAIN:
            found.append(Change(what, keys, gain, knee(changed)))
    return sorted(found, key=lambda change: -change.gain)
