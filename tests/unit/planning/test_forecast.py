"""The analytic model against arithmetic that can be done by hand, and against the published one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protosonic.planning.forecast import capacities, forecast, knee, sonic_time, step_alone_s
from protosonic.planning.plan import make_plan
from protosonic.planning.scenario import Scenario

CAMPAIGN_2021 = {
    "workload.hits_per_event": 55_000,
    "workload.prepare_s": 7.0,
    "workload.other_s": 115.5,
    "clients.requests": "blocking",
    "clients.payload": "patches",
    "clients.hits_per_request": 1720,
    "server.gpus": 4,
    "server.hits_per_s": 55_000 / 1.77,
    "network.client_gbps": None,
    "network.site_gbps": None,
    "network.round_trip_ms": 1e3 * (2.05 + 0.38) * 1720 / 55_000,
}


@pytest.fixture
def scenario() -> Scenario:
    return Scenario().with_changes(CAMPAIGN_2021)


def test_published_model_saturates_at_68_clients_for_each_gpu() -> None:
    below, _ = sonic_time(270, 4)
    above, _ = sonic_time(275, 4)
    alone, step = sonic_time(1, 4)
    assert below == alone < above
    assert step == pytest.approx(1.77 + 2.43 + 7)
    assert alone == pytest.approx(115.5 + step)


def test_few_and_very_many_clients_are_those_of_the_published_model(scenario: Scenario) -> None:
    assert forecast(scenario, 1).event_s == pytest.approx(sonic_time(1, 4)[0])
    slope = forecast(scenario, 1100).step_s - forecast(scenario, 1000).step_s
    assert slope == pytest.approx(sonic_time(1100, 4)[1] - sonic_time(1000, 4)[1], rel=1e-2)
    assert forecast(scenario, 1000).step_s == pytest.approx(sonic_time(1000, 4)[1], rel=0.03)
    # Between them the published model lets nobody wait.
    assert forecast(scenario, 250).step_s > 1.2 * sonic_time(250, 4)[1]


def test_two_clients_of_one_gpu_wait_for_each_other_as_two_jobs_do() -> None:
    """By hand: the second client finds the first one computing for a quarter of the time."""
    scenario = Scenario().with_changes(
        {
            "workload.hits_per_event": 1000,
            "workload.prepare_s": 0.0,
            "workload.other_s": 3.0,
            "clients.requests": "blocking",
            "clients.hits_per_request": 1000,
            "server.hits_per_s": 1000,
            "network.site_gbps": None,
            "network.round_trip_ms": 0.0,
        }
    )
    assert forecast(scenario, 1).step_s == pytest.approx(1.0)
    assert forecast(scenario, 2).step_s == pytest.approx(1.25)
    # Two find 2 x 1.25 / 4.25 of an event there.
    assert forecast(scenario, 3).step_s == pytest.approx(1 + 2 * 1.25 / 4.25)
    assert forecast(scenario, 2.5).step_s == pytest.approx((1.25 + 1 + 2.5 / 4.25) / 2)


def test_site_of_100_gbps_carries_25_events_a_second_as_patches(scenario: Scenario) -> None:
    found = capacities(scenario.with_changes({"network.site_gbps": 100.0}))
    assert found["site links"] == pytest.approx(24.66, abs=0.01)


def test_images_take_the_network_out_of_the_way(scenario: Scenario) -> None:
    narrow = scenario.with_changes({"network.site_gbps": 1.0, "clients.number": 300})
    assert forecast(narrow, 300).limit == "site links"
    plan = make_plan(narrow)
    image = next(change for change in plan.changes if "images" in change.what)
    assert image.gain == max(change.gain for change in plan.changes)
    assert forecast(narrow.with_changes(image.keys), 300).limit != "site links"


def test_requests_of_235_patches_cost_a_gpu_more_unless_they_are_batched(scenario: Scenario) -> None:
    small = scenario.with_changes({"clients.hits_per_request": 235, "server.request_overhead_ms": 3.6})
    alone = small.with_changes({"server.dynamic_batching": False})
    assert capacities(alone)["gpus"] == pytest.approx(4 / (1.77 + 55_000 / 235 * 3.6e-3))
    assert capacities(small)["gpus"] == pytest.approx(4 / 1.77, rel=0.01)


def test_adaptive_client_hides_the_round_trip_that_a_blocking_one_pays_for_each_request() -> None:
    base = {"clients.hits_per_request": 250, "network.round_trip_ms": 12.0, "workload.prepare_s": 0.1}
    blocking = Scenario().with_changes(base | {"clients.requests": "blocking"})
    adaptive = Scenario().with_changes(base)
    assert step_alone_s(blocking) > 200 * 0.012
    assert step_alone_s(adaptive) < 0.2


@given(
    clients=st.integers(1, 5000),
    gpus=st.integers(1, 64),
    other=st.floats(0, 300),
    site=st.one_of(st.none(), st.floats(0.1, 400)),
    requests=st.sampled_from(["adaptive", "blocking"]),
    payload=st.sampled_from(["image", "patches"]),
)
def test_more_clients_never_do_less_and_never_exceed_a_capacity(
    clients: int, gpus: int, other: float, site: float | None, requests: str, payload: str
) -> None:
    scenario = Scenario().with_changes(
        {
            "server.gpus": gpus,
            "workload.other_s": other,
            "network.site_gbps": site,
            "clients.requests": requests,
            "clients.payload": payload,
        }
    )
    few, many = forecast(scenario, clients), forecast(scenario, clients + 1)
    assert many.events_per_s >= few.events_per_s * (1 - 1e-12)
    assert many.event_s >= few.event_s
    assert few.events_per_s <= min(capacities(scenario).values()) * (1 + 1e-12)
    assert (few.limit == "clients") == (clients <= knee(scenario))
