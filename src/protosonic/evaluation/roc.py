"""The ROC curve and its area."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["area_under_curve"]


def area_under_curve(score: NDArray[np.floating], is_signal: NDArray[np.bool_]) -> float:
    """Give the area under the ROC curve: the probability that a signal hit scores higher than one of the others.

    Equal scores count half. Without any signal or without anything else it is 0.5.
    """
    values, place, count = np.unique(score, return_inverse=True, return_counts=True)
    del values
    rank = np.cumsum(count) - (count - 1) / 2
    n = int(is_signal.sum())
    if not 0 < n < len(score):
        return 0.5
    return float((rank[place][is_signal].sum() - n * (n + 1) / 2) / (n * (len(score) - n)))
