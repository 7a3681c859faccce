"""Pauses before a request is tried again, and how many retries there may be."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protosonic.inference.backoff import RetryBudget, full_jitter


@given(st.integers(0, 10_000), st.floats(0.001, 10), st.floats(0.001, 100), st.integers(0, 2**32))
def test_a_pause_lies_between_nothing_and_the_exponential_bound(
    attempt: int, base_s: float, cap_s: float, seed: int
) -> None:
    pause = full_jitter(attempt, base_s, cap_s, random=random.Random(seed))
    assert 0 <= pause <= cap_s
    if attempt < 60:
        assert pause <= base_s * 2**attempt


@pytest.mark.parametrize(("attempt", "bound"), [(0, 0.1), (1, 0.2), (3, 0.8), (6, 5.0), (1000, 5.0)])
def test_pauses_are_spread_over_the_whole_interval(attempt: int, bound: float) -> None:
    source = random.Random(1)
    pauses = [full_jitter(attempt, random=source) for _ in range(2000)]
    assert statistics.mean(pauses) == pytest.approx(bound / 2, rel=0.1)
    assert min(pauses) < 0.02 * bound
    assert max(pauses) > 0.98 * bound


def test_clients_that_failed_together_do_not_share_a_pause() -> None:
    assert len({full_jitter(3) for _ in range(100)}) == 100


def test_a_burst_of_retries_is_allowed_and_then_no_more() -> None:
    budget = RetryBudget(burst=3)
    assert [budget.spend() for _ in range(5)] == [True, True, True, False, False]
    assert budget.available == 0


def test_successes_pay_for_retries() -> None:
    budget = RetryBudget(ratio=0.1, burst=1)
    assert budget.spend()
    for _ in range(9):
        budget.record_success()
    assert not budget.spend()
    budget.record_success()
    assert budget.spend()
    assert not budget.spend()


def test_successes_do_not_save_up_more_than_the_burst() -> None:
    budget = RetryBudget(ratio=0.5, burst=2)
    for _ in range(1000):
        budget.record_success()
    assert [budget.spend() for _ in range(3)] == [True, True, False]


@given(st.floats(0, 1), st.integers(1, 20), st.lists(st.booleans(), max_size=300))
def test_retries_never_exceed_the_burst_and_the_ratio_of_the_successes(
    ratio: float, burst: int, events: list[bool]
) -> None:
    budget = RetryBudget(ratio, burst)
    successes = retries = 0
    for success in events:
        if success:
            budget.record_success()
            successes += 1
        else:
            retries += budget.spend()
        assert retries <= burst + ratio * successes + 1e-6


@pytest.mark.parametrize(("ratio", "burst"), [(-0.1, 10), (float("nan"), 10), (0.2, 0)])
def test_a_budget_that_makes_no_sense_is_refused(ratio: float, burst: float) -> None:
    with pytest.raises(ValueError, match="no budget"):
        RetryBudget(ratio, burst)
