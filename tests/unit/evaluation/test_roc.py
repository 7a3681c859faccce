"""Areas under ROC curves against hand counts and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from protosonic.evaluation.roc import area_under_curve, areas_of_counts, rank_bins, roc_curve

HITS = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30)


def split(hits: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([value for value, _ in hits], np.float32), np.array([flag for _, flag in hits])


def test_the_area_of_a_known_case() -> None:
    score = np.array([0.1, 0.4, 0.35, 0.8], np.float32)
    assert area_under_curve(score, np.array([False, False, True, True])) == 0.75
    assert area_under_curve(np.zeros(4, np.float32), np.array([True, False, True, False])) == 0.5


@pytest.mark.parametrize("flag", [True, False])
def test_there_is_no_area_and_no_curve_of_one_class(flag: bool) -> None:
    score = np.array([0.1, 0.4], np.float32)
    assert area_under_curve(score, np.full(2, flag)) is None
    assert roc_curve(score, np.full(2, flag)) is None
    assert area_under_curve(score[:0], np.empty(0, bool)) is None


@given(HITS)
def test_the_area_is_the_share_of_pairs_in_the_right_order(hits: list[tuple[int, bool]]) -> None:
    signal = [value for value, is_signal in hits if is_signal]
    rest = [value for value, is_signal in hits if not is_signal]
    pairs = [(a > b) + (a == b) / 2 for a in signal for b in rest]
    expected = pytest.approx(sum(pairs) / len(pairs)) if pairs else None
    assert area_under_curve(*split(hits)) == expected


@given(HITS)
def test_areas_of_binned_scores_are_those_of_the_scores_where_no_two_share_a_bin(
    hits: list[tuple[int, bool]],
) -> None:
    score, is_signal = split(hits)
    bins = rank_bins(score)
    signal, rest = (np.bincount(bins[which], minlength=6)[None] for which in (is_signal, ~is_signal))
    (found,) = areas_of_counts(signal.astype(np.float64), rest.astype(np.float64))
    expected = area_under_curve(score, is_signal)
    assert np.isnan(found) if expected is None else found == pytest.approx(expected)


def test_area_and_curve_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    is_signal = rng.random(5000) < 0.3
    score = np.round(rng.normal(is_signal, 1.0), 2).astype(np.float32)  # with many equal scores
    assert area_under_curve(score, is_signal) == pytest.approx(roc_auc_score(is_signal, score), abs=1e-12)
    curve = roc_curve(score, is_signal, most_points=10**6)
    assert curve is not None
    rate, efficiency, cut = sklearn_roc_curve(is_signal, score, drop_intermediate=False)
    np.testing.assert_allclose(curve.efficiency, efficiency, atol=1e-12)
    np.testing.assert_allclose(curve.false_positive_rate, rate, atol=1e-12)
    np.testing.assert_allclose(curve.cut[1:], cut[1:])
    assert curve.cut[0] > score.max()


def test_a_thinned_curve_keeps_its_ends_and_its_area() -> None:
    rng = np.random.default_rng(4)
    is_signal = rng.random(20_000) < 0.01
    score = rng.normal(2.0 * is_signal).astype(np.float32)
    curve = roc_curve(score, is_signal, most_points=200)
    assert curve is not None
    assert len(curve.cut) <= 200
    assert (curve.efficiency[0], curve.false_positive_rate[0]) == (0, 0)
    assert (curve.efficiency[-1], curve.false_positive_rate[-1]) == (1, 1)
    area = np.trapezoid(curve.efficiency, curve.false_positive_rate)
    assert area == pytest.approx(area_under_curve(score, is_signal), abs=3e-3)


def test_the_bins_of_many_scores_keep_their_order_and_lose_little() -> None:
    rng = np.random.default_rng(5)
    score = rng.normal(size=50_000).astype(np.float32)
    bins = rank_bins(score)
    assert (np.diff(bins[np.argsort(score)]) >= 0).all()
    assert bins.max() < 4096
    assert np.bincount(bins).max() <= 20
    assert len(rank_bins(score[:0])) == 0
