"""ROC curves and the area under them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RocCurve", "area_under_curve", "areas_of_counts", "rank_bins", "roc_curve"]


class RocCurve(NamedTuple):
    """Points of a ROC curve, float64 [points], from the strictest cut to the loosest.

    Attributes
    ----------
    cut
        What scores at or above it is taken for signal; the first is above every score.
    efficiency
        Share of the signal that is taken.
    false_positive_rate
        Share of the rest that is taken.
    """

    cut: NDArray[np.float64]
    efficiency: NDArray[np.float64]
    false_positive_rate: NDArray[np.float64]


def area_under_curve(score: NDArray[np.floating], is_signal: NDArray[np.bool_]) -> float | None:
    """Give the area under the ROC curve: the probability that a signal scores higher than one of the rest.

    Equal scores count half. ``None`` where there is no signal or nothing else.
    """
    n = int(is_signal.sum())
    if not 0 < n < len(score):
        return None
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - (count - 1) / 2
    return float((rank[place][is_signal].sum() - n * (n + 1) / 2) / (n * (len(score) - n)))


def roc_curve(
    score: NDArray[np.floating], is_signal: NDArray[np.bool_], most_points: int = 200
) -> RocCurve | None:
    """Give the ROC curve with one point for each different score, thinned out where there are more.

    The points that are kept lie about evenly along the curve, so that steep and flat parts keep their shape. ``None``
    where there is no signal or nothing else.
    """
    n = int(is_signal.sum())
    if not 0 < n < len(score):
        return None
    values, place = np.unique(-score.astype(np.float64), return_inverse=True)
    signal = np.cumsum(np.bincount(place[is_signal], minlength=len(values))) / n
    rest = np.cumsum(np.bincount(place[~is_signal], minlength=len(values))) / (len(score) - n)
    cut = np.concatenate([[np.nextafter(-values[0], np.inf)], -values])
    signal, rest = np.concatenate([[0.0], signal]), np.concatenate([[0.0], rest])
    if len(cut) > most_points:
        wanted = np.linspace(0, 2, most_points)
        keep = np.unique(np.searchsorted(signal + rest, wanted).clip(0, len(cut) - 1))
        cut, signal, rest = cut[keep], signal[keep], rest[keep]
    return RocCurve(cut, signal, rest)


def rank_bins(score: NDArray[np.floating], n_bins: int = 4096) -> NDArray[np.intp]:
    """Put scores into at most `n_bins` bins of about equal content, in ascending order; equal scores share a bin."""
    if not len(score):
        return np.empty(0, np.intp)
    edges = np.unique(np.quantile(score, np.linspace(0, 1, n_bins), method="lower"))
    return np.searchsorted(edges, score, side="left")


def areas_of_counts(signal: NDArray[np.float64], rest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the areas under ROC curves of binned scores.

    Parameters
    ----------
    signal, rest
        float64 [samples, bins]: how many (or with what weight) of each fall into bins of ascending score.

    Returns
    -------
    float64 [samples]; NaN where a sample has no signal or no rest.
    """
    below = np.cumsum(rest, axis=1) - rest / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        areas: NDArray[np.float64] = (signal * below).sum(axis=1) / (signal.sum(axis=1) * rest.sum(axis=1))
    return areas
