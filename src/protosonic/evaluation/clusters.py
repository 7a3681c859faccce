"""Clusters of hits and their scores, as LArSoft accumulates them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from protosonic.evaluation.sample import Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LEAST_HITS", "geometric_mean", "truth_clusters"]

LEAST_HITS = 5
"""Smaller clusters say little more than their hits do."""
_LEAST_SCORE = np.float32(1e-6)


def geometric_mean(
    scores: NDArray[np.float32], cluster: NDArray[np.integer], weight: NDArray[np.floating], n_clusters: int
) -> NDArray[np.float32]:
    """Accumulate the scores of hits into those of clusters (``MVAReader::getOutput`` of lardataobj).

    The weighted geometric mean of each score, clipped to [1e-6, 1 − 1e-6], then all four divided by their sum.

    Parameters
    ----------
    scores
        float32 [hits, 4].
    cluster
        Cluster of each hit, from 0.
    weight
        Weight of each hit; LArSoft takes 1 inside the fiducial region and 0 outside.
    n_clusters
        Number of clusters.

    Returns
    -------
    float32 [clusters, 4]; NaN for clusters without weight, as in LArSoft, and without hits.
    """
    logarithm = np.log(scores.clip(_LEAST_SCORE, 1 - _LEAST_SCORE)).astype(np.float64)
    total = np.bincount(cluster, weight, minlength=n_clusters)
    sums = np.stack(
        [
            np.bincount(cluster, weight * logarithm[:, column], minlength=n_clusters)
            for column in range(scores.shape[1])
        ],
        axis=1,
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.exp(sums / total[:, None])
        normalised: NDArray[np.float32] = (mean / mean.sum(axis=1, keepdims=True)).astype(np.float32)
    return normalised


def truth_clusters(sample: Sample) -> tuple[Sample, NDArray[np.intp], int]:
    """Make the clusters of a perfect clustering: the hits of one particle in one plane of one TPC.

    Parameters
    ----------
    sample
        Hits; those without a particle are in no cluster.

    Returns
    -------
    The clusters of at least :data:`LEAST_HITS` hits with at least one in the fiducial region: their label is that of
    most of their hits (the first of equal ones), their charge the sum. Then the cluster of each hit, −1 for none; and
    how many clusters were left out.
    """
    has_particle = sample.particle >= 0
    key = np.stack(
        [
            column[has_particle].astype(np.int64)
            for column in (sample.event, sample.tpc, sample.plane, sample.particle)
        ],
        axis=1,
    )
    found, first, member = np.unique(key, axis=0, return_index=True, return_inverse=True)
    member = member.reshape(-1)
    hits = sample.select(has_particle)
    n = np.bincount(member, minlength=len(found))
    inside = np.bincount(member, hits.in_fiducial, minlength=len(found))
    votes = np.bincount(member * 4 + hits.label, minlength=4 * len(found)).reshape(-1, 4)
    kept = (n >= LEAST_HITS) & (inside > 0)
    number = np.where(kept, np.cumsum(kept) - 1, -1)
    charge = np.bincount(member, hits.charge.astype(np.float64), minlength=len(found))
    clusters = Sample(
        event=hits.event[first][kept],
        tpc=hits.tpc[first][kept],
        plane=hits.plane[first][kept],
        charge=charge[kept].astype(np.float32),
        in_fiducial=np.ones(int(kept.sum()), bool),
        label=votes.argmax(axis=1)[kept].astype(np.int8),
        particle=hits.particle[first][kept],
        angle=hits.angle[first][kept],
    )
    cluster = np.full(len(sample), -1, np.intp)
    cluster[has_particle] = number[member]
    return clusters, cluster, int((~kept).sum())
