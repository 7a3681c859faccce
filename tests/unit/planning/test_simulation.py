"""The simulation where theory knows the answer."""

from __future__ import annotations

import pytest

from protosonic.planning.forecast import capacities, knee, step_alone_s
from protosonic.planning.scenario import Scenario
from protosonic.planning.simulation import simulate

CALM = {
    "workload.spread": 0.0,
    "workload.hits_per_event": 20_000,
    "workload.prepare_s": 0.5,
    "workload.other_s": 5.0,
    "server.hits_per_s": 50_000,
    "clients.hits_per_request": 1000,
    "network.round_trip_ms": 12.0,
}


@pytest.fixture(params=["adaptive", "blocking"])
def scenario(request: pytest.FixtureRequest) -> Scenario:
    return Scenario().with_changes(CALM | {"clients.requests": request.param})


def test_one_client_takes_what_the_analytic_model_says(scenario: Scenario) -> None:
    if scenario.clients.requests == "blocking":
        expected = pytest.approx(step_alone_s(scenario), rel=1e-6)
    else:  # its limit starts at one request, and the first events are slower until it has grown
        expected = pytest.approx(step_alone_s(scenario), rel=0.1)
    assert simulate(scenario, 1).step_s == expected


def test_many_clients_reach_the_capacity_and_no_more(scenario: Scenario) -> None:
    seen = simulate(scenario, round(3 * knee(scenario)))
    assert seen.events_per_s == pytest.approx(min(capacities(scenario).values()), rel=0.1)
    assert seen.gpu_busy > 0.9


def test_equal_seeds_give_equal_results(scenario: Scenario) -> None:
    noisy = scenario.with_changes({"workload.spread": 0.4})
    assert simulate(noisy, 10, seed=3) == simulate(noisy, 10, seed=3)
    assert simulate(noisy, 10, seed=3) != simulate(noisy, 10, seed=4)


def test_full_link_limits() -> None:
    scenario = Scenario().with_changes(CALM | {"clients.payload": "patches", "network.site_gbps": 1.0})
    limit = capacities(scenario)["site links"]
    assert limit < capacities(scenario)["gpus"]
    assert simulate(scenario, 20).events_per_s == pytest.approx(limit, rel=0.1)


def test_requests_that_wait_share_a_call_with_dynamic_batching_only() -> None:
    base = CALM | {"server.request_overhead_ms": 5.0}
    together = simulate(Scenario().with_changes(base), 60)
    alone = simulate(Scenario().with_changes(base | {"server.dynamic_batching": False}), 60)
    assert alone.hits_per_call == pytest.approx(1000)
    assert together.hits_per_call > 2000
    assert together.events_per_s > 1.1 * alone.events_per_s


def test_short_queue_refuses_and_adaptive_clients_still_get_everything_done() -> None:
    scenario = Scenario().with_changes(CALM | {"server.max_queue": 8})
    seen = simulate(scenario, 60)
    assert seen.refused > 0
    assert seen.events_per_s > 0.7 * capacities(scenario)["gpus"]


def test_a_part_of_a_large_campaign_stands_for_all_of_it() -> None:
    small = Scenario().with_changes(CALM | {"server.gpus": 2, "network.site_gbps": 2.0})
    large = small.with_changes({"server.gpus": 200, "network.site_gbps": 200.0})
    a_hundredth, whole = simulate(small, 40), simulate(large, 4000)
    assert whole.events_per_s == pytest.approx(100 * a_hundredth.events_per_s, rel=0.1)
