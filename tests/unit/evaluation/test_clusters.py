"""Clusters of hits: LArSoft's accumulation against its formula, and the clusters of the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from protosonic.evaluation.clusters import LEAST_HITS, geometric_mean, truth_clusters
from protosonic.evaluation.sample import Sample

from .builders import make_sample


def by_hand(scores: list[list[float]], weights: list[float]) -> list[float]:
    means = []
    for column in zip(*scores, strict=True):
        logs = [math.log(min(max(score, 1e-6), 1 - 1e-6)) for score in column]
        means.append(math.exp(sum(w * log for w, log in zip(weights, logs, strict=True)) / sum(weights)))
    return [mean / sum(means) for mean in means]


@pytest.mark.parametrize("weights", [[1, 1, 1], [1, 0, 1], [0, 2, 1]])
def test_scores_of_a_cluster_are_normalised_geometric_means(weights: list[float]) -> None:
    scores = [[0.9, 0.1, 0.0, 0.3], [0.2, 0.7, 0.1, 1.0], [0.6, 0.3, 0.1, 0.01]]
    found = geometric_mean(np.array(scores, np.float32), np.zeros(3, int), np.array(weights, float), 1)
    assert found.dtype == np.float32
    assert found[0].tolist() == pytest.approx(by_hand(scores, weights), rel=1e-5)
    assert found.sum() == pytest.approx(1)


def test_clusters_are_accumulated_apart_and_one_without_weight_is_nan() -> None:
    scores = np.array([[0.9, 0.1, 0.1, 0.1], [0.1, 0.8, 0.1, 0.1], [0.5, 0.5, 0.5, 0.5]], np.float32)
    found = geometric_mean(scores, np.array([2, 0, 1]), np.array([1.0, 1.0, 0.0]), 4)
    np.testing.assert_allclose(found[2], scores[0] / scores[0].sum(), rtol=1e-5)
    np.testing.assert_allclose(found[0], scores[1] / scores[1].sum(), rtol=1e-5)
    assert np.isnan(found[1]).all()
    assert np.isnan(found[3]).all()


def hits_of(*groups: tuple[int, int, int, int, int]) -> Sample:
    """(event, TPC, plane, particle, number of hits) of each group."""
    columns = np.repeat(np.array(groups), [group[-1] for group in groups], axis=0)
    return make_sample(
        [0] * len(columns),
        **{name: columns[:, k] for k, name in enumerate(("event", "tpc", "plane", "particle"))},
        charge=np.arange(len(columns)),
    )


def test_a_cluster_is_a_particle_in_a_plane_of_a_tpc_of_an_event() -> None:
    sample = hits_of((0, 1, 2, 5, 6), (0, 1, 1, 5, 5), (1, 1, 2, 5, 5), (0, 2, 2, 5, 7), (0, 1, 2, 6, 5))
    clusters, member, left_out = truth_clusters(sample)
    assert (len(clusters), left_out) == (5, 0)
    assert sorted(np.bincount(member).tolist()) == [5, 5, 5, 6, 7]
    for k in range(5):
        here = member == k
        for name in ("event", "tpc", "plane", "particle"):
            assert set(getattr(sample, name)[here].tolist()) == {getattr(clusters, name)[k]}
        assert clusters.charge[k] == sample.charge[here].sum()


def test_small_clusters_those_outside_and_hits_without_particle_are_left_out() -> None:
    sample = hits_of((0, 1, 2, 0, LEAST_HITS - 1), (0, 1, 2, 1, 8), (0, 1, 2, -1, 9), (0, 1, 2, 2, 5))
    sample.in_fiducial[sample.particle == 1] = False
    clusters, member, left_out = truth_clusters(sample)
    assert (clusters.particle.tolist(), left_out) == ([2], 2)
    assert ((member == 0) == (sample.particle == 2)).all()
    assert (member[sample.particle != 2] == -1).all()


def test_a_cluster_has_the_class_of_most_of_its_hits() -> None:
    sample = make_sample([0, 3, 3, 3, 1, 1], particle=4)
    assert truth_clusters(sample)[0].label.tolist() == [3]
