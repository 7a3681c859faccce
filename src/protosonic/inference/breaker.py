"""Keeps work away from an endpoint that fails, and lets it be tried again after a while."""

from __future__ import annotations

import time
from enum import StrEnum
from random import SystemRandom
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

__all__ = ["BreakerState", "CircuitBreaker"]

_JITTER = 0.25
_MOST_DOUBLINGS = 30


class BreakerState(StrEnum):
    """Whether an endpoint gets work."""

    CLOSED = "closed"
    """It gets work."""
    OPEN = "open"
    """It gets none."""
    HALF_OPEN = "half-open"
    """It is being probed."""


class CircuitBreaker:
    """A circuit breaker for one endpoint: closed, open, half-open.

    Several failures in a row open it. After a cool-down one probe may be made; the probe's success closes the breaker,
    its failure opens it for twice as long. The cool-down returns to its first length when a request is answered, not
    when a probe is: an endpoint that passes every probe and fails every request is left alone for longer and longer.
    All cool-downs vary by a quarter, so that jobs that lost an endpoint together do not return to it together.

    Parameters
    ----------
    failures
        Failures in a row that open the breaker.
    cool_down_s, longest_cool_down_s
        First and longest time, in seconds, before a probe, without the variation.
    clock
        Gives the time in seconds.
    random
        Source of the variation.

    Attributes
    ----------
    opened_count
        How often an endpoint that had work was cut off; failed probes do not count.
    """

    def __init__(
        self,
        failures: int = 3,
        cool_down_s: float = 1.0,
        longest_cool_down_s: float = 60.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
    ) -> None:
        if failures < 1 or not 0 < cool_down_s <= longest_cool_down_s:
            raise ValueError(f"no breaker with {failures} failures, {cool_down_s} to {longest_cool_down_s} s")
        self._most_failures = failures
        self._cool_down_s = cool_down_s
        self._longest_cool_down_s = longest_cool_down_s
        self._clock = clock
        self._random = random or SystemRandom()
        self._state = BreakerState.CLOSED
        self._failures = 0
        self._doublings = 0
        self._next_probe_at: float | None = None
        self.opened_count = 0

    @property
    def state(self) -> BreakerState:
        """Whether the endpoint gets work."""
        return self._state

    @property
    def next_probe_at(self) -> float | None:
        """When the next probe may be made, by the clock; ``None`` unless the breaker is open."""
        return self._next_probe_at

    def record_success(self) -> None:
        """Take notice of an answered request; one that was sent before the breaker opened changes nothing."""
        if self._state is BreakerState.CLOSED:
            self._failures = 0
            self._doublings = 0

    def record_failure(self) -> bool:
        """Take notice of a failed request.

        Returns
        -------
        Whether this failure opened the breaker.
        """
        if self._state is not BreakerState.CLOSED:
            return False
        self._failures += 1
        if self._failures < self._most_failures:
            return False
        self.trip()
        return True

    def trip(self) -> None:
        """Open at once, for a failure that leaves no doubt; an open breaker stays as it is."""
        if self._state is BreakerState.OPEN:
            return
        if self._state is BreakerState.CLOSED:
            self.opened_count += 1
        self._open()

    def may_probe(self) -> bool:
        """Whether the breaker is open and its cool-down over."""
        return self._next_probe_at is not None and self._clock() >= self._next_probe_at

    def begin_probe(self) -> None:
        """Go from open to half-open; until the probe has ended there is no other."""
        self._expect(BreakerState.OPEN)
        self._state = BreakerState.HALF_OPEN
        self._next_probe_at = None

    def probe_succeeded(self) -> None:
        """Close after a probe."""
        self._expect(BreakerState.HALF_OPEN)
        self._state = BreakerState.CLOSED
        self._failures = 0

    def probe_failed(self) -> None:
        """Open again after a probe, for twice as long as before."""
        self._expect(BreakerState.HALF_OPEN)
        self._open()

    def _expect(self, state: BreakerState) -> None:
        if self._state is not state:
            raise RuntimeError(f"the breaker is {self._state}, not {state}")

    def _open(self) -> None:
        cool_down = min(self._cool_down_s * 2.0**self._doublings, self._longest_cool_down_s)
        self._doublings = min(self._doublings + 1, _MOST_DOUBLINGS)
        self._state = BreakerState.OPEN
        self._next_probe_at = self._clock() + cool_down * self._random.uniform(1 - _JITTER, 1 + _JITTER)
