"""Scores hits on endpoints and on the CPU, as the policy says: every hit exactly once, whatever fails on the way."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from protosonic.errors import ConfigError, ServiceError
from protosonic.inference.endpoint_lane import EndpointLane
from protosonic.inference.golden import CANARIES, NoReference, Reference
from protosonic.inference.hits import PatchBatch
from protosonic.inference.pieces import Piece, PieceQueue, ScoreCollector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from protosonic.inference.contract import Backend
    from protosonic.inference.endpoint_options import EndpointOptions
    from protosonic.inference.failure_policy import EndpointError
    from protosonic.inference.hits import HitBatch
    from protosonic.inference.statistics import EndpointStatistics

__all__ = ["Dispatcher", "Fallback", "Policy"]

Policy = Literal["endpoint-first", "endpoint-only", "cpu-only", "cooperative"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fallback:
    """Why an endpoint was left.

    Attributes
    ----------
    after_patches
        Number of hits that were scored before.
    reason
        What went wrong.
    """

    after_patches: int
    reason: str


class _LocalModel:
    """The model on the CPU, loaded when it is first needed, and its scores of the golden batch."""

    def __init__(self, load: Callable[[], Backend] | None, tolerance: float) -> None:
        self._load = load
        self._tolerance = tolerance
        self._lock = threading.RLock()
        self._backend: Backend | None = None
        self._reference: Reference | None = None

    @property
    def is_loaded(self) -> bool:
        return self._backend is not None

    def backend(self) -> Backend:
        with self._lock:
            if self._backend is None:
                assert self._load is not None
                self._backend = self._load()
            return self._backend

    def reference(self) -> Reference:
        with self._lock:
            if self._reference is None and self._load is None:
                self._reference = NoReference()
            elif self._reference is None:
                self._reference = Reference(self.backend().infer, self._tolerance)
            return self._reference

    def close(self) -> None:
        with self._lock:
            if self._backend is not None:
                self._backend.close()


class Dispatcher:
    """Scores batches of patches on endpoints, on the CPU, or on both.

    ``endpoint-first`` uses the endpoints while one of them serves, and the CPU while none does; an overloaded endpoint
    is waited for. ``endpoint-only`` never uses the CPU, ``cpu-only`` never an endpoint. ``cooperative`` uses both: the
    CPU takes its work from the other end of the queue and, at the end, also what the endpoints have not answered yet.

    One thread gives out the work; it is the only one that changes what is written here. Answers, results of the CPU
    and outcomes of checks are posted to it.

    Parameters
    ----------
    policy
        See above.
    endpoints
        The endpoints; work is shared among those that serve, by their weights.
    cpu
        Function that loads the model for the CPU. Its scores are also what those of the endpoints are compared with.
        With ``endpoint-only`` it may be ``None``: then nothing is compared.
    tolerance
        Largest difference between scores of an endpoint and of the CPU.
    patience_s
        How long an overloaded endpoint is waited for before it counts as lost, in seconds; with ``endpoint-only`` also
        how long one that has served is waited for.
    retries
        How often a request that failed is sent again, to whichever endpoint.

    Raises
    ------
    ConfigError
        The policy needs an endpoint or the CPU, and there is none.
    """

    def __init__(
        self,
        policy: Policy,
        endpoints: Sequence[EndpointOptions],
        cpu: Callable[[], Backend] | None,
        *,
        tolerance: float = 1e-5,
        patience_s: float = 300.0,
        retries: int = 4,
    ) -> None:
        if policy != "cpu-only" and not endpoints:
            raise ConfigError(f"policy {policy} needs an endpoint", where="inference.endpoints")
        if policy != "endpoint-only" and cpu is None:
            raise ConfigError(f"policy {policy} needs a model for the CPU", where="model.path")
        self._policy = policy
        self._retries = retries
        self._local = _LocalModel(cpu, tolerance)
        self._lanes = (
            []
            if policy == "cpu-only"
            else [EndpointLane(options, self, patience_s=patience_s) for options in endpoints]
        )
        self.fallbacks: list[Fallback] = []
        """The endpoints that were left, in order."""
        self.cpu_patches = 0
        """Number of hits that the CPU has scored."""
        self._waiting = PieceQueue()
        self._for_cpu: deque[Piece] = deque()
        self._collector = ScoreCollector()
        self._cpu_threads: ThreadPoolExecutor | None = None
        self._cpu_free = 0
        self._is_input_over = False
        self._is_closed = False
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._engine: threading.Thread | None = None
        # What the engine and the caller share.
        self._changed = threading.Condition()
        self._ready: deque[tuple[NDArray[np.float32], str]] = deque()
        self._held = 0
        self._put = 0
        self._taken = 0
        self._error: BaseException | None = None

    @property
    def statistics(self) -> list[EndpointStatistics]:
        """What was seen of every endpoint."""
        return [lane.statistics for lane in self._lanes]

    @property
    def cpu(self) -> Backend | None:
        """The model on the CPU, where it has been loaded."""
        return self._local.backend() if self._local.is_loaded else None

    @property
    def batch_size(self) -> int:
        """Hits per batch that suit the backends."""
        if not self._lanes:
            return self._local.backend().batch_size
        return max(
            lane.options.request_patches - CANARIES
            if lane.options.payload == "patches"
            else lane.options.request_hits
            for lane in self._lanes
        )

    def score(
        self, batches: Iterable[HitBatch | NDArray[np.float32]]
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.object_]]]:
        """Score batches; the next ones are made while those before are scored.

        Parameters
        ----------
        batches
            Hits, or patches, float32 [n, 48, 48]. They are taken from the iterator when there is room for them: what
            is held is bounded.

        Yields
        ------
        Scores, float32 [n, 4], and the backends that made them, str [n], in the order of the hits. They come in chunks
        of other sizes than the batches.

        Raises
        ------
        ServiceError
            No endpoint can serve and the policy forbids the CPU.
        ModelError
            The local model is unusable.
        """
        self.post(lambda: self._set_input_over(value=False))
        for hits in batches:
            yield from self._take_until(self.has_room)
            self.put(hits)
        self.post(lambda: self._set_input_over(value=True))
        yield from self._take_until(lambda: self._taken == self._put)

    def has_room(self) -> bool:
        """Whether more patches should be put now; what is held is bounded only as far as this is heeded."""
        with self._changed:
            return self._held < self._most_held()

    def put(self, hits: HitBatch | NDArray[np.float32]) -> None:
        """Add hits, or patches, float32 [n, 48, 48], at the end of what is to be scored; does not wait."""
        if not len(hits):
            return
        self._start()
        with self._changed:
            piece = Piece(self._put, PatchBatch(hits) if isinstance(hits, np.ndarray) else hits)
            self._put += len(piece)
            self._held += len(piece)
        self.post(lambda: self._waiting.append(piece))

    def take(
        self, condition: Callable[[], bool] = lambda: False
    ) -> list[tuple[NDArray[np.float32], NDArray[np.object_]]]:
        """Take the scores that are next in order, as :meth:`score` gives them; waits for some, or for a condition.

        Raises
        ------
        ServiceError, ModelError
            As with :meth:`score`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error or self._ready or condition())
            if self._error is not None:
                raise self._error
            chunks = list(self._ready)
            self._ready.clear()
            self._taken += sum(len(scores) for scores, _ in chunks)
        return [(scores, np.full(len(scores), backend, dtype=object)) for scores, backend in chunks]

    def close(self) -> None:
        """Release all backends; what is under way is given up."""
        if self._engine is not None:
            self.post(self._set_closed)
            self._engine.join()
        for lane in self._lanes:
            lane.close()
        if self._cpu_threads is not None:
            self._cpu_threads.shutdown(cancel_futures=True)
        self._local.close()

    # The caller's side

    def _start(self) -> None:
        if self._engine is None:
            self._engine = threading.Thread(target=self._run, name="dispatcher", daemon=True)
            self._engine.start()

    def _take_until(
        self, condition: Callable[[], bool]
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.object_]]]:
        """Give what is scored until a condition holds."""
        is_met = False
        while not is_met:
            yield from self.take(condition)
            is_met = condition()

    def _most_held(self) -> int:
        """Give the number of patches that may wait or be under way: enough that no backend ever waits for them."""
        under_way = sum(lane.options.max_in_flight * lane.most_patches for lane in self._lanes)
        if self._policy != "endpoint-only" and (not self._lanes or self._local.is_loaded):
            cpu = self._local.backend()
            under_way += 2 * cpu.concurrency * cpu.batch_size
        return under_way + 1

    # What lanes call (LaneOwner)

    def post(self, event: Callable[[], None]) -> None:
        """Have a function called in the thread that gives out the work."""
        self._events.put(event)

    def reference(self) -> Reference:
        """Give the golden batch and its scores by the local model."""
        return self._local.reference()

    def deliver(self, piece: Piece, scores: NDArray[np.float32], backend: str) -> bool:
        """Take the scores of a piece, unless its hits have scores already."""
        if not piece.is_needed:
            return False
        piece.is_done = True
        whole = piece.whole
        if whole is None:
            self._collect([(piece.first, scores)], backend)
        else:
            piece.scores = scores
            if all(part.is_done for part in whole.parts):
                whole.is_done = True
                self._collect(
                    [(part.first, part.scores) for part in whole.parts if part.scores is not None], backend
                )
                for lane in self._lanes:
                    lane.abandon(whole)
        return True

    def again(self, piece: Piece) -> None:
        """Take back a piece that an endpoint did not score."""
        if piece.parts:  # the CPU is at it already
            return
        if piece.tries <= self._retries:
            self._waiting.put_back(piece)
        elif self._policy == "endpoint-only":
            self.fail(
                ServiceError(
                    f"a request failed {piece.tries} times, and the policy endpoint-only forbids the CPU",
                    found="; ".join(str(lane.reason) for lane in self._lanes if lane.reason) or None,
                    hint="The log and the status file name each failure",
                )
            )
        else:
            self._for_cpu.append(piece)

    def left(self, error: EndpointError) -> None:
        """Take notice that an endpoint is left."""
        reason = str(error)
        if not any(fallback.reason == reason for fallback in self.fallbacks):
            self.fallbacks.append(Fallback(self._put - self._held, reason))

    def fail(self, error: BaseException) -> None:
        """End the scoring with an error."""
        with self._changed:
            if self._error is None:
                self._error = error
            self._changed.notify_all()

    # The thread that gives out the work

    def _run(self) -> None:
        try:
            while not self._is_closed and self._error is None:
                now = time.monotonic()
                self._give_out(now)
                self._handle_events(now)
        except BaseException as error:  # noqa: BLE001  (it is raised in the caller's thread)
            self.fail(error)

    def _handle_events(self, now: float) -> None:
        try:
            self._events.get(timeout=self._pause_s(now))()
            while True:
                self._events.get_nowait()()
        except queue.Empty:
            return

    def _pause_s(self, now: float) -> float | None:
        """Give the time until something is due that was not when work was given out, at `now`."""
        due = [at for lane in self._lanes if (at := lane.next_event_at(now)) is not None]
        if self._held and self._policy == "endpoint-only":
            due.append(now + 1.0)  # to see when the patience ends
        return max(min(due) - time.monotonic(), 0.0) if due else None

    def _give_out(self, now: float) -> None:
        for lane in self._lanes:
            lane.advance(now)
        if self._policy == "endpoint-only" and self._held and all(x.is_given_up(now) for x in self._lanes):
            self.fail(
                ServiceError(
                    "no endpoint can serve, and the policy endpoint-only forbids the CPU",
                    found="; ".join(str(lane.reason) for lane in self._lanes),
                    hint="Start the server, correct inference.endpoints, or choose the policy endpoint-first",
                )
            )
        self._feed_endpoints(now)
        while self._policy != "endpoint-only" and (piece := self._next_for_cpu()) is not None:
            self._feed_cpu(piece)

    def _feed_endpoints(self, now: float) -> None:
        while len(self._waiting):
            lanes = [lane for lane in self._lanes if lane.room(now)]
            if not lanes:
                return
            least = min(lane.passes for lane in lanes)
            lane = next(lane for lane in lanes if lane.passes == least)
            for other in lanes:  # one that has come back must not catch up with a burst
                other.passes = min(other.passes, least + 1 / other.options.weight)
            lane.send(self._waiting.take_first(lane.most_patches))

    def _next_for_cpu(self) -> Piece | None:
        is_hopeful = any(lane.is_hopeful for lane in self._lanes)
        if not self._for_cpu and is_hopeful and self._policy != "cooperative":
            return None
        if not self._for_cpu and not len(self._waiting) and not self._could_attempt_again():
            return None
        if self._cpu_threads is None:
            cpu = self._local.backend()
            self._cpu_free = cpu.concurrency
            self._cpu_threads = ThreadPoolExecutor(cpu.concurrency, thread_name_prefix=cpu.name)
        if not self._cpu_free:
            return None
        size = self._local.backend().batch_size
        while self._for_cpu:
            piece = self._for_cpu.popleft()
            if piece.is_needed:
                return piece
        if len(self._waiting):
            return self._waiting.take_last(size) if is_hopeful else self._waiting.take_first(size)
        if self._could_attempt_again():
            latest = max(self._under_way(), key=lambda piece: piece.first)
            self._for_cpu.extend(latest.attempt_again(size))
            return self._for_cpu.popleft()
        return None

    def _could_attempt_again(self) -> bool:
        return self._policy == "cooperative" and self._is_input_over and bool(self._under_way())

    def _under_way(self) -> list[Piece]:
        return [
            piece
            for lane in self._lanes
            for piece in lane.pieces_under_way
            if piece.is_needed and not piece.parts
        ]

    def _feed_cpu(self, piece: Piece) -> None:
        assert self._cpu_threads is not None
        self._cpu_free -= 1
        future = self._cpu_threads.submit(self._local.backend().score, piece.hits)
        future.add_done_callback(lambda done: self.post(lambda: self._cpu_done(piece, done)))

    def _cpu_done(self, piece: Piece, future: Future[NDArray[np.float32]]) -> None:
        self._cpu_free += 1
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self.fail(error)
        else:
            self.deliver(piece, future.result(), self._local.backend().name)

    def _collect(self, parts: Sequence[tuple[int, NDArray[np.float32]]], backend: str) -> None:
        n = sum(len(scores) for _, scores in parts)
        for first, scores in parts:
            self._collector.add(first, scores, backend)
        if self._local.is_loaded and backend == self._local.backend().name:
            self.cpu_patches += n
        with self._changed:
            self._held -= n
            self._ready.extend(self._collector.take())
            self._changed.notify_all()

    def _set_input_over(self, *, value: bool) -> None:
        self._is_input_over = value

    def _set_closed(self) -> None:
        self._is_closed = True
