"""How many requests may be under way at one endpoint: a limit that follows the endpoint's latency."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AdaptiveLimit"]

_AFTER_SLOW_ANSWER = 0.7
_AFTER_TIMEOUT = 0.5
_AFTER_OVERLOAD = 0.7
_LEAST = 1 / 32
_GROWTH_IN_OVERLOAD = 0.1
_CALM_ANSWERS = 50


class AdaptiveLimit:
    """Additive increase, multiplicative decrease of the number of requests under way at one endpoint.

    The limit starts low and grows by one per answer (slow start) until the first sign of congestion, later by one per
    round, that is per as many answers as the limit allows. It shrinks to 0.7 of itself when an answer took longer than
    the latency target or the endpoint refused for overload, and to half when a deadline passed. Of one round only the
    first such sign counts: requests that were sent before the last decrease say nothing about the limit after it.

    A refusal says that there are more clients than places, and then three things change until fifty answers have come
    without another. The limit may fall below one, which means pauses: at a quarter there is one request in the time of
    four. It grows ten times slower, because each step too far is a request that crosses the network in vain. And the
    requests are spread over the time of an answer: whoever sends the next one as soon as a place is free keeps that
    place for ever, and whoever has none never gets one.

    The sign of congestion is an absolute latency, the same for all clients, and not a ratio to the lowest latency that
    this client has seen. All clients of a saturated queue that serves in order of arrival see the same latency, so
    they grow and shrink together; growing leaves the differences between them as they are, and each shrinking makes
    them smaller: the shares become equal (D.-M. Chiu and R. Jain, Comp. Networks ISDN 17 (1989) 1). A ratio favours
    the late: whoever comes to a full queue takes the latency found there for the lowest possible one, and pushes aside
    those who know better.

    Parameters
    ----------
    most
        Largest limit, at least 1.
    latency_target_s
        Latency, in seconds, that an answer should not exceed.
    start
        The limit to begin with, at least 1.
    clock
        Gives the time in seconds, on the scale of the ``sent_at`` of the signals.
    """

    def __init__(
        self,
        most: int,
        latency_target_s: float,
        start: float = 1.0,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if most < 1 or not 1 <= start <= most or not latency_target_s > 0:
            raise ValueError(f"no limit from {start} to {most} at {latency_target_s} s")
        self._most = most
        self._latency_target_s = latency_target_s
        self._start = float(start)
        self._clock = clock
        self._limit: float
        self._slow_start: bool
        self._calm_answers: int | None
        self._decreased_at: float
        self.reset()

    @property
    def limit(self) -> int:
        """Number of requests that may be under way now, from 1 to ``most``."""
        return min(int(self._limit) + 1, self._most) if self.is_paced else int(self._limit)

    @property
    def is_paced(self) -> bool:
        """Whether the endpoint has refused for overload of late, so that requests are spread over time."""
        return self._calm_answers is not None

    def pace_s(self, latency_s: float) -> float:
        """Give the time from one request to the next, in seconds, where an answer takes `latency_s`."""
        return latency_s / self._limit if self.is_paced else 0.0

    @property
    def in_slow_start(self) -> bool:
        """Whether no sign of congestion has been seen since the start or the last reset."""
        return self._slow_start

    def on_success(self, latency_s: float, in_flight: int, *, sent_at: float) -> None:
        """Take notice of an answer.

        Parameters
        ----------
        latency_s
            Seconds from sending to the answer.
        in_flight
            Requests that were under way when it was sent, itself included. A limit that is not used does not grow:
            nothing is known about what lies above it.
        sent_at
            When it was sent, by the clock.
        """
        if sent_at < self._decreased_at:
            return
        if self._calm_answers is not None:
            self._calm_answers += 1
            if self._calm_answers >= _CALM_ANSWERS:
                self._calm_answers = None
                self._limit = max(self._limit, 1.0)
        if latency_s > self._latency_target_s:
            if self._limit >= 1:
                self._decrease(_AFTER_SLOW_ANSWER, 1.0)
        elif self.is_paced:
            self._increase(_GROWTH_IN_OVERLOAD / self._limit)
        elif self._slow_start:
            # The limit has grown since the request was sent, up to twice per round: half of it in use is all of it.
            if 2 * in_flight >= self.limit:
                self._increase(1.0)
        elif in_flight >= self.limit:
            self._increase(1.0 / self._limit)

    def on_overload(self, *, sent_at: float) -> None:
        """Take notice that the endpoint refused a request because it has too many."""
        self._calm_answers = 0
        if sent_at >= self._decreased_at:
            self._decrease(_AFTER_OVERLOAD, _LEAST)

    def on_timeout(self, *, sent_at: float) -> None:
        """Take notice that the deadline of a request passed."""
        if sent_at >= self._decreased_at and self._limit >= 1:
            self._decrease(_AFTER_TIMEOUT, 1.0)

    def reset(self) -> None:
        """Begin anew, as for an endpoint that has come back."""
        self._limit = self._start
        self._slow_start = True
        self._calm_answers = None
        self._decreased_at = float("-inf")

    def _increase(self, by: float) -> None:
        self._limit = min(self._limit + by, float(self._most))

    def _decrease(self, to: float, least: float) -> None:
        self._limit = max(self._limit * to, least)
        self._slow_start = False
        self._decreased_at = self._clock()
