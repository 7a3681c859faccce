"""How long to wait before a request is tried again, and how often requests may be tried again at all."""

from __future__ import annotations

from random import SystemRandom
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

__all__ = ["RetryBudget", "full_jitter"]

_SYSTEM_RANDOM = SystemRandom()
_MOST_DOUBLINGS = 60
_ROUNDING = 1e-9


def full_jitter(
    attempt: int, base_s: float = 0.1, cap_s: float = 5.0, *, random: Random = _SYSTEM_RANDOM
) -> float:
    """Choose the pause before a request is tried again: exponential back-off with full jitter.

    The pause is uniform between nothing and the exponential bound, which spreads clients that failed together more
    evenly than a bound with a little noise does (M. Brooker, AWS Architecture Blog, 2015).

    Parameters
    ----------
    attempt
        How often it has been tried again so far, from 0.
    base_s, cap_s
        Bound of the first pause and of every pause, in seconds.
    random
        Source of the jitter.

    Returns
    -------
    Seconds, from 0 to ``min(cap_s, base_s * 2**attempt)``.
    """
    return random.uniform(0.0, min(cap_s, base_s * 2.0 ** min(attempt, _MOST_DOUBLINGS)))


class RetryBudget:
    """A token bucket that successes fill and retries empty.

    However many requests fail, retries add no more than ``ratio`` to the load that the endpoint answers, and a burst:
    an outage cannot turn into a storm of retries.

    Parameters
    ----------
    ratio
        Retries that one success pays for.
    burst
        Most retries that can be saved up; the budget starts full.
    """

    def __init__(self, ratio: float = 0.2, burst: float = 10) -> None:
        if not ratio >= 0 or not burst >= 1:
            raise ValueError(f"no budget of {ratio} retries per success and a burst of {burst}")
        self._ratio = ratio
        self._burst = float(burst)
        self._tokens = self._burst

    @property
    def available(self) -> int:
        """Number of retries that can be made now."""
        return int(self._tokens + _ROUNDING)

    def record_success(self) -> None:
        """Take notice of an answered request."""
        self._tokens = min(self._tokens + self._ratio, self._burst)

    def spend(self) -> bool:
        """Take one retry from the budget.

        Returns
        -------
        Whether there was one left.
        """
        if self.available < 1:
            return False
        self._tokens = max(self._tokens - 1.0, 0.0)
        return True
