"""Uncertainties by drawing events again.

Hits of one event are not independent: they share a shower, a track and the detector's conditions. So whole events are
drawn with replacement, as often as there are events, and the spread of a figure over many such draws is its
uncertainty (the bootstrap).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from protosonic.evaluation.record import Quantity

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MOST_GROUPS", "Resampler"]

MOST_GROUPS = 400
"""More events are drawn in this many groups, which bounds the memory."""


class Resampler:
    """Draws of events.

    Parameters
    ----------
    n_events
        Events of the sample.
    resamples
        Number of draws.
    seed
        Equal seeds and numbers of events give equal draws, so that two scorers are compared on the same ones.
    """

    def __init__(self, n_events: int, resamples: int, seed: int) -> None:
        self.n_groups = min(n_events, MOST_GROUPS)
        rng = np.random.default_rng(seed)
        shares = np.full(self.n_groups, 1 / max(self.n_groups, 1))
        self.weights: NDArray[np.float64] = (
            rng.multinomial(self.n_groups, shares, size=resamples).astype(np.float64)
            if self.n_groups > 1
            else np.empty((0, self.n_groups))
        )

    def counts(
        self,
        event: NDArray[np.integer],
        column: NDArray[np.integer],
        n_columns: int,
        weight: NDArray[np.floating] | None = None,
    ) -> NDArray[np.float64]:
        """Count (or sum the weights of) rows by group of events and column, float64 [groups, columns]."""
        place = (event.astype(np.int64) % max(self.n_groups, 1)) * n_columns + column
        counts = np.bincount(place, weight, minlength=self.n_groups * n_columns)
        return counts.astype(np.float64).reshape(self.n_groups, n_columns)

    def ratio(
        self,
        above: NDArray[np.float64],
        below: NDArray[np.float64],
        reason: str,
    ) -> Quantity:
        """Give the ratio of two counts by group of events, float64 [groups], with its uncertainty.

        `reason` says what is missing where the second is zero.
        """
        if not below.sum():
            return Quantity(reason=reason)
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = (self.weights @ above) / (self.weights @ below)
        return self.quantity(float(above.sum() / below.sum()), drawn)

    def quantity(self, value: float, drawn: NDArray[np.float64]) -> Quantity:
        """Give a value with the spread of its draws; draws that are NaN are left out."""
        finite = drawn[np.isfinite(drawn)]
        if self.n_groups < 2:
            return Quantity(value=value, reason="no uncertainty: there is one event")
        if len(finite) < 2:
            return Quantity(value=value, reason="no uncertainty: too few draws have both classes")
        return Quantity(value=value, uncertainty=float(finite.std(ddof=1)))
