"""Shape features and the classical baseline."""

from __future__ import annotations

import numpy as np
import pytest

from protosonic.errors import DataError
from protosonic.evaluation.baseline import Baseline
from protosonic.evaluation.features import FEATURE_NAMES, PITCHES_PER_TICK, hit_features


def columns(place: np.ndarray, tpc: int = 1) -> dict[str, np.ndarray]:
    n = len(place)
    return {
        "tpc": np.full(n, tpc),
        "plane": np.full(n, 2),
        "wire": place[:, 0],
        "peak_time": (place[:, 1] / PITCHES_PER_TICK).astype(np.float32),
        "rms": np.full(n, 3.0, np.float32),
        "peak_amplitude": np.full(n, 6.0, np.float32),
        "integral": np.full(n, 45.0, np.float32),
    }


def feature(found: np.ndarray, name: str) -> np.ndarray:
    return found[:, FEATURE_NAMES.index(name)]


def test_a_straight_track_is_a_line() -> None:
    wire = np.arange(100)
    found = hit_features(columns(np.stack([wire, 0.75 * wire], axis=1)))
    assert found.shape == (100, len(FEATURE_NAMES))
    assert feature(found, "linearity_15") == pytest.approx(np.ones(100), abs=1e-3)
    assert feature(found, "line_distance_15") == pytest.approx(np.zeros(100), abs=1e-4)
    assert feature(found, "slope_15") == pytest.approx(np.full(100, 0.6), abs=1e-4)
    assert feature(found, "distance_1") == pytest.approx(np.full(100, 1.25), abs=1e-4)
    inside = slice(20, 80)
    assert (feature(found, "hits_within_4")[inside] == 6).all()
    assert (feature(found, "charge_within_4")[inside] == 6 * 45).all()
    assert (feature(found, "wires_within_8")[inside] == 12).all()
    asymmetry = feature(found, "asymmetry")
    assert asymmetry[0] > 20
    assert asymmetry[50] == pytest.approx(0, abs=1e-3)


def test_a_cloud_is_not_a_line() -> None:
    place = np.random.default_rng(1).normal(0, 5, (200, 2))
    assert np.median(feature(hit_features(columns(place)), "linearity_40")) < 0.5


def test_hits_that_are_alone_have_finite_features() -> None:
    assert np.isfinite(hit_features(columns(np.zeros((1, 2))))).all()
    assert np.isfinite(hit_features(columns(np.array([[0.0, 0], [500, 9000]])))).all()
    assert hit_features(columns(np.empty((0, 2)))).shape == (0, len(FEATURE_NAMES))


def test_neighbours_are_sought_in_the_same_plane_of_the_same_tpc() -> None:
    place = np.stack([np.arange(30.0), np.zeros(30)], axis=1)
    one, other = columns(place), columns(place[::-1] + 0.1, tpc=5)
    both = hit_features({name: np.concatenate([one[name], other[name]]) for name in one})
    np.testing.assert_array_equal(both[:30], hit_features(one))
    np.testing.assert_array_equal(both[30:], hit_features(other))


def learnable(n: int, classes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    label = rng.choice(classes, n).astype(np.int8)
    features = rng.normal(size=(n, 3)).astype(np.float32)
    features[:, 1] += 4 * label
    return features, label


def test_the_baseline_learns_every_class_and_gives_the_same_scores_again() -> None:
    features, label = learnable(3000, [0, 1, 2, 3])
    label[:300] = -1
    scores = Baseline(features, label, seed=1).score(features)
    known = label >= 0
    assert scores.dtype == np.float32
    assert scores[:, :3].sum(axis=1) == pytest.approx(np.ones(3000), abs=1e-6)
    plain = known & (label < 3)
    assert (scores[plain, :3].argmax(axis=1) == label[plain]).mean() > 0.95
    assert ((scores[known, 3] > 0.5) == (label[known] == 3)).mean() > 0.95
    np.testing.assert_array_equal(Baseline(features, label, seed=1).score(features), scores)


def test_classes_that_the_baseline_has_not_seen_score_zero() -> None:
    features, label = learnable(500, [0, 1])
    scores = Baseline(features, label, seed=1).score(features)
    assert (scores[:, 2:] == 0).all()
    assert Baseline(features, label, seed=1).score(features[:0]).shape == (0, 4)


def test_a_baseline_cannot_learn_from_one_class() -> None:
    features, label = learnable(100, [0])
    with pytest.raises(DataError) as caught:
        Baseline(features, label, seed=1)
    assert caught.value.code == "no-truth"
