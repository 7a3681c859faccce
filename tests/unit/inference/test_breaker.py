"""Which endpoint is left alone, for how long, and when it is tried again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protosonic.inference.breaker import BreakerState, CircuitBreaker


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def breaker_at(clock: Clock, *, seed: int = 1, **options: float) -> CircuitBreaker:
    return CircuitBreaker(clock=clock, random=random.Random(seed), **options)


def probe(breaker: CircuitBreaker, clock: Clock) -> float:
    """Begin the next probe as soon as it is allowed, and return how long that took."""
    assert breaker.next_probe_at is not None
    waited = breaker.next_probe_at - clock.now
    clock.now = breaker.next_probe_at
    assert breaker.may_probe()
    breaker.begin_probe()
    return waited


def test_failures_in_a_row_open_it_and_an_answer_between_them_does_not(clock: Clock) -> None:
    breaker = breaker_at(clock, failures=3)
    opened = [breaker.record_failure(), breaker.record_failure()]
    breaker.record_success()
    opened += [breaker.record_failure(), breaker.record_failure(), breaker.record_failure()]
    assert opened == [False, False, False, False, True]
    assert breaker.state is BreakerState.OPEN
    assert breaker.opened_count == 1


def test_a_failure_without_doubt_opens_it_at_once(clock: Clock) -> None:
    breaker = breaker_at(clock)
    breaker.trip()
    first = breaker.next_probe_at
    clock.now += 0.1
    breaker.trip()
    assert breaker.state is BreakerState.OPEN
    assert breaker.next_probe_at == first
    assert breaker.opened_count == 1


def test_a_probe_is_allowed_after_the_cool_down_and_only_one(clock: Clock) -> None:
    breaker = breaker_at(clock, cool_down_s=8)
    assert not breaker.may_probe()
    assert breaker.next_probe_at is None
    breaker.trip()
    clock.now += 5.9
    assert not breaker.may_probe()
    clock.now = 110
    assert breaker.may_probe()
    breaker.begin_probe()
    assert breaker.state is BreakerState.HALF_OPEN
    assert not breaker.may_probe()
    with pytest.raises(RuntimeError, match="half-open, not open"):
        breaker.begin_probe()


def test_a_probe_that_succeeds_closes_it(clock: Clock) -> None:
    breaker = breaker_at(clock, failures=2)
    breaker.trip()
    probe(breaker, clock)
    breaker.probe_succeeded()
    assert breaker.state is BreakerState.CLOSED
    assert breaker.next_probe_at is None
    assert not breaker.record_failure(), "failures from before are forgotten"


def test_a_probe_that_fails_doubles_the_cool_down_up_to_the_longest(clock: Clock) -> None:
    breaker = breaker_at(clock, cool_down_s=1, longest_cool_down_s=10)
    breaker.trip()
    for nominal in (1, 2, 4, 8, 10, 10):
        waited = probe(breaker, clock)
        assert 0.75 * nominal <= waited <= 1.25 * nominal
        breaker.probe_failed()
    assert breaker.opened_count == 1


def test_only_an_answered_request_brings_the_first_cool_down_back(clock: Clock) -> None:
    breaker = breaker_at(clock, failures=1)
    waits = []
    for _ in range(4):
        breaker.record_failure()
        waits.append(probe(breaker, clock))
        breaker.probe_succeeded()
    for nominal, waited in zip((1, 2, 4, 8), waits, strict=True):
        assert 0.75 * nominal <= waited <= 1.25 * nominal
    assert breaker.opened_count == 4
    breaker.record_success()
    breaker.record_failure()
    assert probe(breaker, clock) <= 1.25


def test_late_results_of_requests_change_nothing_while_it_is_open_or_half_open(clock: Clock) -> None:
    breaker = breaker_at(clock, failures=1)
    breaker.record_failure()
    breaker.record_success()
    assert not breaker.record_failure()
    assert breaker.state is BreakerState.OPEN
    probe(breaker, clock)
    breaker.record_success()
    assert not breaker.record_failure()
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.probe_failed()
    assert 1.5 <= probe(breaker, clock) <= 2.5


def test_jobs_that_lose_an_endpoint_together_return_at_different_times(clock: Clock) -> None:
    times = set()
    for seed in range(50):
        breaker = breaker_at(clock, seed=seed, cool_down_s=4)
        breaker.trip()
        times.add(breaker.next_probe_at)
    assert len(times) == 50
    assert max(times) - min(times) > 1


@pytest.mark.parametrize("result", ["probe_succeeded", "probe_failed"])
def test_the_result_of_a_probe_that_was_not_begun_is_a_bug(clock: Clock, result: str) -> None:
    breaker = breaker_at(clock)
    with pytest.raises(RuntimeError, match="closed, not half-open"):
        getattr(breaker, result)()


@pytest.mark.parametrize(
    ("failures", "cool_down_s", "longest_cool_down_s"), [(0, 1, 60), (3, 0, 60), (3, 61, 60)]
)
def test_a_breaker_that_makes_no_sense_is_refused(
    failures: int, cool_down_s: float, longest_cool_down_s: float
) -> None:
    with pytest.raises(ValueError, match="no breaker"):
        CircuitBreaker(failures, cool_down_s, longest_cool_down_s)


@given(
    st.lists(st.sampled_from(["success", "failure", "trip", "probe ok", "probe bad", "wait"]), max_size=200)
)
def test_it_is_never_shut_for_ever_and_never_probed_early(events: list[str]) -> None:
    clock = Clock()
    breaker = breaker_at(clock, cool_down_s=1, longest_cool_down_s=10)
    for event in events:
        if event == "wait":
            clock.now += 0.5
        elif event == "trip":
            breaker.trip()
        elif event.startswith("probe") and breaker.may_probe():
            breaker.begin_probe()
            if event == "probe ok":
                breaker.probe_succeeded()
            else:
                breaker.probe_failed()
        elif event in {"success", "failure"}:
            getattr(breaker, f"record_{event}")()
        assert (breaker.next_probe_at is not None) == (breaker.state is BreakerState.OPEN)
        if breaker.next_probe_at is not None:
            assert breaker.next_probe_at <= clock.now + 12.5
