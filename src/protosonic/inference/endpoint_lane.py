"""One endpoint while a job uses it: checked, given work within its limit, left when it fails, and tried again."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from random import SystemRandom
from typing import TYPE_CHECKING, Protocol

from protosonic.errors import ConfigError
from protosonic.inference.backoff import RetryBudget, full_jitter
from protosonic.inference.breaker import CircuitBreaker
from protosonic.inference.concurrency import AdaptiveLimit
from protosonic.inference.failure_policy import Action, EndpointError, FailureClass
from protosonic.inference.golden import CANARIES
from protosonic.inference.health import check_endpoint
from protosonic.inference.image_payload import MOST_CANVAS
from protosonic.inference.statistics import EndpointStatistics
from protosonic.inference.triton_client import Answer, TritonClient

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    import numpy as np
    from numpy.typing import NDArray

    from protosonic.errors import ProtosonicError
    from protosonic.inference.endpoint_options import EndpointOptions
    from protosonic.inference.golden import Reference
    from protosonic.inference.health import ServedModel
    from protosonic.inference.pieces import Piece
    from protosonic.inference.triton_client import Call, ServerTimes

__all__ = ["EndpointLane", "LaneOwner"]

STALL_S = 10.0
"""After so long without an answer, or five times the usual latency, the server is asked whether it still lives."""
STALL_LATENCIES = 5
TOKEN_POLL_S = 1.0
NOT_SERVED = {
    FailureClass.NOT_READY,
    FailureClass.UNKNOWN_MODEL,
    FailureClass.WRONG_MODEL,
    FailureClass.REFUSED_REQUEST,
    FailureClass.PROTOCOL,
}
"""Failures of the image form of a model after which the model itself is tried."""
OF_THE_ENDPOINT = {
    FailureClass.UNAVAILABLE,
    FailureClass.TIMEOUT,
    FailureClass.UNAUTHENTICATED,
    FailureClass.TLS,
}
"""Failures that say nothing about a model: they are reported of the configured one, whichever form was asked for."""
FIRST_LATENCY_S = 0.5
"""What a request is taken to need before one has been answered."""
LONGEST_PAUSE_S = 30.0

log = logging.getLogger(__name__)


class LaneOwner(Protocol):
    """Who gives work to an endpoint. All calls come in the owner's own thread."""

    def post(self, event: Callable[[], None]) -> None:
        """Have a function called in the owner's thread; the one method that other threads may call."""

    def reference(self) -> Reference:
        """Give the golden batch and its scores; called in a thread of the lane."""

    def deliver(self, piece: Piece, scores: NDArray[np.float32], backend: str) -> bool:
        """Take scores; gives whether they were still wanted."""

    def again(self, piece: Piece) -> None:
        """Take back a piece that was not scored."""

    def left(self, error: EndpointError) -> None:
        """Take notice that the endpoint is left."""

    def fail(self, error: BaseException) -> None:
        """End the job: nothing that the endpoint or another one does can help."""


class _State(StrEnum):
    NEW = "new"
    CHECKED_FIRST = "checked for the first time"
    READY = "ready"
    AWAY = "away"
    PROBED = "probed"
    REFUSED = "refused"
    CLOSED = "closed"


@dataclass(eq=False)
class _Sending:
    piece: Piece
    generation: int
    in_flight: int
    order: NDArray[np.int64] | None
    call: Call | None = None


@dataclass
class _Checked:
    client: TritonClient
    served: ServedModel
    times: ServerTimes | None


class EndpointLane:
    """One endpoint while a job uses it.

    All methods are called in the owner's thread. Checks, which wait for answers, run in a thread of the lane.

    Parameters
    ----------
    options
        How to reach the endpoint.
    owner
        Who gives work to it.
    patience_s
        How long an overloaded endpoint is waited for, in seconds.
    random
        Source of jitter.

    Attributes
    ----------
    statistics
        What was seen of it.
    most_patches
        Most hits in one request.
    has_served
        Whether it has passed its check once.
    reason
        Why it was left last.
    passes
        Requests that it got, divided by its weight: the endpoint with the fewest passes is next.
    """

    backend = "triton"

    def __init__(
        self,
        options: EndpointOptions,
        owner: LaneOwner,
        *,
        patience_s: float,
        random: Random | None = None,
    ) -> None:
        self.options = options
        self.statistics = EndpointStatistics(options.url)
        self.most_patches = max(options.request_patches - CANARIES, 1)
        self.has_served = False
        self.reason: EndpointError | None = None
        self.passes = 0.0
        self._owner = owner
        self._patience_s = patience_s
        self._random = random or SystemRandom()
        self._limit = AdaptiveLimit(options.max_in_flight, options.latency_target_s)
        self._breaker = CircuitBreaker(random=self._random)
        self._budget = RetryBudget()
        self._state = _State.NEW
        self._started_at = time.monotonic()
        self._left_at = self._started_at
        self._checks = 0
        self._client: TritonClient | None = None
        self._times: ServerTimes | None = None
        self._needs_token = False
        self._in_flight: set[_Sending] = set()
        self._generation = 0
        self._refusals = 0
        self._paused_until = 0.0
        self._check_at: float | None = None
        self._overloaded_since: float | None = None
        self._usual_latency_s = FIRST_LATENCY_S
        self._asked_at = 0.0
        self._is_asking = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="endpoint-check")

    @property
    def is_hopeful(self) -> bool:
        """Whether it serves, or may after its first check; overload does not take the hope away."""
        return self._state in {_State.NEW, _State.CHECKED_FIRST, _State.READY}

    def is_given_up(self, now: float) -> bool:
        """Whether it is not worth waiting for, where there is nothing else to wait for."""
        if self.is_hopeful or self.reason is None:
            return False
        if self._state is _State.REFUSED or self.reason.failure is FailureClass.OVERLOAD:
            return True
        if not self.has_served:
            return self._needs_token or self._checks >= 3
        return now - self._left_at > self._patience_s

    @property
    def pieces_under_way(self) -> list[Piece]:
        """The pieces that it works on, in the order in which they were sent."""
        current = [sending for sending in self._in_flight if sending.generation == self._generation]
        return [sending.piece for sending in sorted(current, key=lambda sending: sending.call.sent_at)]  # type: ignore[union-attr]

    def room(self, now: float) -> int:
        """Give the number of requests that it can take now."""
        if self._state is not _State.READY or now < self._paused_until:
            return 0
        return max(self._limit.limit - len(self._in_flight), 0)

    def next_event_at(self, now: float) -> float | None:
        """Give the time at which :meth:`advance` is due, or room may have come."""
        times = [self._check_at, self._breaker.next_probe_at if self._state is _State.AWAY else None]
        if self._paused_until > now:
            times.append(self._paused_until)
        if self._needs_token:
            times = [now + TOKEN_POLL_S]
        if self._is_watching:
            times.append(self._stalled_at())
        return min((at for at in times if at is not None), default=None)

    def advance(self, now: float) -> None:
        """Do what is due: check, probe, or ask a server that does not answer whether it lives."""
        if self._state is _State.NEW:
            self._state = _State.CHECKED_FIRST
            self._check()
        elif self._check_at is not None and now >= self._check_at:
            self._check()
        elif self._state is _State.AWAY and self._may_probe():
            self._breaker.begin_probe()
            self._state = _State.PROBED
            self._check()
        elif self._is_watching and now >= self._stalled_at():
            self._ask_whether_alive()

    def send(self, piece: Piece) -> None:
        """Send a piece; there must be room, and it must not be larger than ``most_patches``."""
        assert self._client is not None
        request = self._client.prepare_hits(piece.hits, self._owner.reference())
        is_too_large = request.n_bytes > self.options.request_bytes or request.n_pixels > MOST_CANVAS
        if self._client.takes_images and is_too_large and len(piece) > 1:
            # How much an image takes shows only when it is made.
            half = len(piece) // 2
            self._owner.again(piece.cut(half, len(piece) - half))
            self._owner.again(piece.cut(0, half))
            return
        sending = _Sending(piece, self._generation, len(self._in_flight) + 1, request.order)
        self._in_flight.add(sending)
        self.passes += 1 / self.options.weight
        self.statistics.sent(request.n_bytes, len(self._in_flight))
        self._pace()
        sending.call = self._client.send(
            request, lambda outcome: self._owner.post(lambda: self._answered(sending, outcome))
        )

    def abandon(self, piece: Piece) -> None:
        """Cancel the request of a piece that was scored elsewhere."""
        for sending in self._in_flight:
            if sending.piece is piece and sending.call is not None:
                sending.call.cancel()

    def close(self) -> None:
        """Cancel what is under way and close the channel; checks that run are ended."""
        if self._state is _State.READY and self._client is not None and self._times is not None:
            with suppress(EndpointError):
                after = self._client.server_times()
                if after is not None:
                    self.statistics.add_server_times(self._times, after)
        self._state = _State.CLOSED
        for sending in self._in_flight:
            if sending.call is not None:
                sending.call.cancel()
        if self._client is not None:
            self._client.close()
        self._thread.shutdown(cancel_futures=True)

    # Checks

    def _check(self) -> None:
        self._check_at = None
        self._checks += 1
        future = self._thread.submit(self._run_check)
        future.add_done_callback(
            lambda done: self._owner.post(lambda: self._checked(done.exception() or done.result()))
        )

    def _run_check(self) -> _Checked:
        *others, last = self.options.alternatives()
        for options in others:
            try:
                return self._check_model(options)
            except EndpointError as error:
                if error.failure not in NOT_SERVED:
                    raise
                is_odd = error.failure in {FailureClass.WRONG_MODEL, FailureClass.PROTOCOL}
                log.log(logging.WARNING if is_odd else logging.INFO, "%s is not used: %s", options, error)
        return self._check_model(last)

    def _check_model(self, options: EndpointOptions) -> _Checked:
        client = TritonClient(options)
        client.was_ready = self.has_served
        before, self._client = self._client, client
        if before is not None:
            before.close()
        served = check_endpoint(client, self._owner.reference())
        try:
            times = client.server_times()
        except EndpointError:
            times = None
        return _Checked(client, served, times)

    def _checked(self, outcome: _Checked | BaseException) -> None:
        if self._state is _State.CLOSED:
            return
        now = time.monotonic()
        if isinstance(outcome, _Checked):
            self._arrive(outcome)
        elif not isinstance(outcome, EndpointError):
            self._owner.fail(outcome)
        else:
            self._not_checked(self._of_the_configured_model(outcome), now)

    def _not_checked(self, outcome: EndpointError, now: float) -> None:
        if outcome.action is Action.WAIT and not self._is_out_of_patience(now):
            self.statistics.failed(outcome, now - self._started_at)
            self._refusals += 1
            self._check_at = now + full_jitter(self._refusals, 0.5, 10.0, random=self._random)
        else:
            self.statistics.failed(outcome, now - self._started_at)
            self._depart(outcome)

    def _of_the_configured_model(self, error: EndpointError) -> EndpointError:
        if error.failure in OF_THE_ENDPOINT:
            error.file = str(self.options)
        return error

    def _arrive(self, checked: _Checked) -> None:
        options, served = self.options, checked.served
        wanted = options.request_hits + CANARIES if checked.client.takes_images else options.request_patches
        most = min(wanted, served.max_batch_size or wanted) - CANARIES
        if most < 1:
            self._depart(
                EndpointError(
                    "the server takes too few patches in a request",
                    FailureClass.WRONG_MODEL,
                    file=str(options),
                    expected=f"a max_batch_size of at least {CANARIES + 1}",
                    found=served.max_batch_size,
                )
            )
            return
        log.info("%s serves version %s", options, served.version)
        if self._state is _State.PROBED:
            self._breaker.probe_succeeded()
        self._state = _State.READY
        self.most_patches = most
        self.statistics.payload = "image" if checked.client.takes_images else "patches"
        self.has_served = True
        self._needs_token = False
        self._refusals = 0
        self._limit.reset()
        self._times = checked.times
        if served.deviation is not None:
            self.statistics.deviation = max(self.statistics.deviation or 0.0, served.deviation)
        self._note_version(served.version)

    def _depart(self, error: EndpointError) -> None:
        """Leave the endpoint: for good where trying again cannot help, else until a probe succeeds."""
        is_probe = self._state is _State.PROBED
        if not is_probe:
            self.statistics.departures += 1
            self._left_at = time.monotonic()
        self.reason = error
        if error.action in {Action.REFUSE, Action.SPLIT}:
            self._state = _State.REFUSED
        elif is_probe:
            self._breaker.probe_failed()
            self._state = _State.AWAY
        else:
            self._breaker.trip()
            self._state = _State.AWAY
        self._needs_token = error.action is Action.REAUTHENTICATE
        self._generation += 1
        for sending in self._in_flight:
            if sending.call is not None:
                sending.call.cancel()
        log.log(logging.INFO if is_probe else logging.WARNING, "%s is left: %s", self.options.url, error)
        self._owner.left(error)

    def _may_probe(self) -> bool:
        if self._needs_token:  # without a newer one a probe could only fail
            return self._client is not None and self._client.has_newer_token()
        return self._breaker.may_probe()

    @property
    def _is_watching(self) -> bool:
        return self._state is _State.READY and bool(self._in_flight) and not self._is_asking

    def _stalled_at(self) -> float:
        patience = max(STALL_S, STALL_LATENCIES * self._usual_latency_s)
        oldest = min(sending.call.sent_at for sending in self._in_flight if sending.call is not None)
        return max(oldest, self._asked_at) + patience

    def _ask_whether_alive(self) -> None:
        assert self._client is not None
        self._is_asking = True
        generation = self._generation

        def answered(error: BaseException | None) -> None:
            self._is_asking, self._asked_at = False, time.monotonic()
            is_current = self._state is _State.READY and generation == self._generation
            if is_current and isinstance(error, EndpointError) and error.action is not Action.WAIT:
                error = self._of_the_configured_model(error)
                self.statistics.failed(error, time.monotonic() - self._started_at)
                self._depart(error)

        future = self._thread.submit(self._client.is_live)
        future.add_done_callback(lambda done: self._owner.post(lambda: answered(done.exception())))

    # Answers

    def _answered(self, sending: _Sending, outcome: Answer | ProtosonicError) -> None:
        self._in_flight.discard(sending)
        if self._state is _State.CLOSED:
            return
        if isinstance(outcome, Answer):
            try:
                scores = self._owner.reference().without_canaries(outcome.scores, str(self.options))
            except EndpointError as error:
                outcome = error
            else:
                if sending.order is not None:
                    scores[sending.order] = scores.copy()
                self._use(sending, outcome, scores)
                return
        if isinstance(outcome, ConfigError):
            self._owner.fail(outcome)
            return
        assert isinstance(outcome, EndpointError)
        outcome = self._of_the_configured_model(outcome)
        if not sending.piece.is_needed:  # it was cancelled, or would have been discarded
            self.statistics.discarded += 1
            return
        if sending.generation == self._generation:
            self._handle(sending, outcome)
        reason = outcome if sending.generation == self._generation or self.reason is None else self.reason
        self.statistics.retries[str(reason.failure)] += 1
        self._owner.again(sending.piece)

    def _use(self, sending: _Sending, answer: Answer, scores: NDArray[np.float32]) -> None:
        assert sending.call is not None
        self._limit.on_success(answer.seconds, sending.in_flight, sent_at=sending.call.sent_at)
        self._usual_latency_s += (answer.seconds - self._usual_latency_s) / 8
        if sending.generation == self._generation:
            self._breaker.record_success()
            self._budget.record_success()
            self._overloaded_since = None
        self._note_version(answer.model_version)
        if self._owner.deliver(sending.piece, scores, self.backend):
            self.statistics.answered(answer, len(scores))
        else:
            self.statistics.discarded += 1

    def _handle(self, sending: _Sending, error: EndpointError) -> None:
        now = time.monotonic()
        assert sending.call is not None
        self.statistics.failed(error, now - self._started_at)
        if error.action is Action.WAIT:
            self._limit.on_overload(sent_at=sending.call.sent_at)
            self._pace()
            if self._is_out_of_patience(now):
                self._depart(error)
        elif error.action is Action.SPLIT and len(sending.piece) > 1:
            self.most_patches = min(self.most_patches, len(sending.piece) // 2)
        elif error.action is Action.REAUTHENTICATE:
            # Others were sent with the older token too: only a failure with the newest one says that it is no good.
            if self._client is None or not self._client.has_newer_token(sending.call):
                self._depart(error)
        elif error.action is Action.RETRY:
            sending.piece.tries += 1
            if error.failure is FailureClass.TIMEOUT:
                self._limit.on_timeout(sent_at=sending.call.sent_at)
            self._paused_until = now + full_jitter(sending.piece.tries, random=self._random)
            if self._breaker.record_failure() or not self._budget.spend():
                self._depart(error)
        else:
            self._depart(error)

    def _pace(self) -> None:
        """Wait before the next request where the endpoint is overloaded; never all clients equally long."""
        pause_s = min(self._limit.pace_s(self._usual_latency_s), LONGEST_PAUSE_S)
        pause_s *= self._random.uniform(0.5, 1.5)
        self._paused_until = max(self._paused_until, time.monotonic() + pause_s)

    def _is_out_of_patience(self, now: float) -> bool:
        if self._overloaded_since is None:
            self._overloaded_since = now
        return now - self._overloaded_since > self._patience_s

    def _note_version(self, version: str) -> None:
        if self.statistics.served_by(version):
            log.warning(
                "%s: version %s answers now; its scores are those of the local model", self.options, version
            )
