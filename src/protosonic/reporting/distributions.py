"""How the scores of a dataset are distributed, and how far from those of a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from protosonic.dataset.read import iterate_hits
from protosonic.detectors.geometry import PLANE_NAMES
from protosonic.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "BINS",
    "SCORES",
    "Drift",
    "Histograms",
    "drifts",
    "read_reference",
    "score_histograms",
    "stability",
]

SCORES = ("track", "em", "none", "michel")
BINS = 40
SHIFTED, OTHER = 0.1, 0.25
"""Population stability index from which a distribution is called shifted, and another one; the usual limits."""

Histograms = dict[tuple[int, str], "NDArray[np.int64]"]
"""Plane and score → counts in 40 bins from 0 to 1."""


class Drift(NamedTuple):
    """How far the distribution of a score is from that of the reference.

    Attributes
    ----------
    plane, score
        Which one.
    stability
        Population stability index.
    mean, reference_mean
        Mean scores, from the bins.
    verdict
        ``as the reference``, ``shifted`` or ``different``.
    """

    plane: int
    score: str
    stability: float
    mean: float
    reference_mean: float

    @property
    def verdict(self) -> str:
        """What the index means."""
        if self.stability < SHIFTED:
            return "as the reference"
        return "shifted" if self.stability < OTHER else "different"


def score_histograms(dataset: Path) -> Histograms:
    """Count scores in 40 bins from 0 to 1, by plane and class."""
    histograms = {
        (plane, name): np.zeros(BINS, np.int64) for plane in range(len(PLANE_NAMES)) for name in SCORES
    }
    for batch in iterate_hits(dataset, ["plane", *SCORES]):
        plane = batch["plane"].to_numpy()
        for name in SCORES:
            bins = np.clip((batch[name].to_numpy() * BINS).astype(np.int64), 0, BINS - 1)
            for number in range(len(PLANE_NAMES)):
                histograms[number, name] += np.bincount(bins[plane == number], minlength=BINS)
    return histograms


def read_reference(reference: Path) -> Histograms:
    """Count the scores of a reference dataset.

    Raises
    ------
    ConfigError
        It is no dataset.
    """
    try:
        return score_histograms(reference)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            "the reference cannot be read",
            file=reference,
            where="report.reference",
            expected="the results folder of a campaign, or a Parquet file of hits",
            found=str(error),
        ) from error


def stability(counts: NDArray[np.int64], reference: NDArray[np.int64]) -> float:
    """Give the population stability index: Σ (p − q) ln(p / q) over the bins, with half a hit added to each.

    Below 0.1 distributions are commonly called equal, above 0.25 different (Siddiqi, Credit Risk Scorecards, 2006).
    """
    p, q = ((n + 0.5) / (n.sum() + 0.5 * len(n)) for n in (counts, reference))
    return float(np.sum((p - q) * np.log(p / q)))


def drifts(histograms: Mapping[tuple[int, str], NDArray[np.int64]], reference: Histograms) -> list[Drift]:
    """Compare each distribution of which both have hits; the largest index first."""
    centres = (np.arange(BINS) + 0.5) / BINS
    found = []
    for (plane, score), counts in histograms.items():
        other = reference[plane, score]
        if counts.sum() and other.sum():
            means = [float(np.average(centres, weights=n)) for n in (counts, other)]
            found.append(Drift(plane, score, stability(counts, other), *means))
    return sorted(found, key=lambda drift: -drift.stability)
