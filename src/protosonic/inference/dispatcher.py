"""Chooses the backend of every batch, as the policy says, keeps it busy, and keeps a record of the choice."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from protosonic.errors import ConfigError, ModelError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from protosonic.inference.contract import Backend

__all__ = ["Dispatcher", "Fallback", "Policy"]

Policy = Literal["endpoint-first", "endpoint-only", "cpu-only"]


@dataclass(frozen=True)
class Fallback:
    """Why an endpoint was given up.

    Attributes
    ----------
    after_patches
        Number of patches that were scored before.
    reason
        What went wrong.
    """

    after_patches: int
    reason: str


class _Connection:
    """A backend and the threads that call it, as many as it takes calls at the same time."""

    def __init__(self, backend: Backend, *, is_cpu: bool) -> None:
        self.backend = backend
        self.is_cpu = is_cpu
        self._threads = ThreadPoolExecutor(backend.concurrency, thread_name_prefix=backend.name)

    def submit(self, patches: NDArray[np.float32]) -> Future[NDArray[np.float32]]:
        return self._threads.submit(self.backend.infer, patches)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        self.backend.close()


class _Batch(NamedTuple):
    patches: NDArray[np.float32]
    connection: _Connection
    scores: Future[NDArray[np.float32]]


class Dispatcher:
    """Scores batches of patches on an endpoint or on the CPU.

    ``cpu-only`` never asks an endpoint. ``endpoint-first`` takes the first endpoint that can serve; when it fails, the
    batch and all later ones go to the next endpoint and at last to the CPU. ``endpoint-only`` does the same without
    the CPU. A batch is scored as a whole by one backend or not at all.

    Parameters
    ----------
    policy
        See above.
    endpoints
        Functions that connect to an endpoint, in order of preference; they raise :class:`ServiceError` when it cannot
        serve.
    cpu
        Function that loads the model for the CPU.

    Attributes
    ----------
    fallbacks
        The endpoints that were given up, in order.
    """

    def __init__(
        self, policy: Policy, endpoints: Sequence[Callable[[], Backend]], cpu: Callable[[], Backend]
    ) -> None:
        if policy != "cpu-only" and not endpoints:
            raise ConfigError(f"policy {policy} needs an endpoint", where="inference.endpoints")
        self._policy = policy
        self._waiting = [] if policy == "cpu-only" else list(endpoints)
        self._cpu = cpu
        self._current: _Connection | None = None
        self._connections: list[_Connection] = []
        self._patches = 0
        self.fallbacks: list[Fallback] = []

    @property
    def used(self) -> list[Backend]:
        """The backends that were connected, in order."""
        return [connection.backend for connection in self._connections]

    @property
    def batch_size(self) -> int:
        """Patches per batch that suit the present backend; connects to it."""
        return self._connected().backend.batch_size

    def score(
        self, batches: Iterable[NDArray[np.float32]]
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.object_]]]:
        """Score batches in their order; the next ones are made and scored while one is waited for.

        Parameters
        ----------
        batches
            float32 [n, 48, 48] each. They are taken from the iterator when there is room for them: no more than twice
            the calls that the backend takes at the same time are held.

        Yields
        ------
        Scores of a batch, float32 [n, 4], and the backend that made them, str [n].

        Raises
        ------
        ServiceError
            No endpoint can serve and the policy forbids the CPU.
        ModelError
            The local model is unusable.
        """
        waiting: deque[_Batch] = deque()
        for patches in batches:
            waiting.append(self._submit(patches))
            while len(waiting) >= 2 * waiting[-1].connection.backend.concurrency:
                yield self._result(waiting.popleft())
        while waiting:
            yield self._result(waiting.popleft())

    def close(self) -> None:
        """Release all backends; calls that have begun are waited for."""
        for connection in self._connections:
            connection.close()

    def _submit(self, patches: NDArray[np.float32]) -> _Batch:
        connection = self._connected()
        return _Batch(patches, connection, connection.submit(patches))

    def _result(self, batch: _Batch) -> tuple[NDArray[np.float32], NDArray[np.object_]]:
        while True:
            try:
                scores = batch.scores.result()
            except (ServiceError, ModelError) as error:
                if batch.connection.is_cpu:
                    raise
                # Of several batches that were under way, the first to fail has given the endpoint up.
                if batch.connection is self._current:
                    self._give_up(error)
                batch = self._submit(batch.patches)
            else:
                self._patches += len(scores)
                return scores, np.full(len(scores), batch.connection.backend.name, dtype=object)

    def _connected(self) -> _Connection:
        while self._current is None:
            if self._waiting:
                try:
                    self._current = _Connection(self._waiting.pop(0)(), is_cpu=False)
                except ServiceError as error:
                    self._give_up(error)
            elif self._policy == "endpoint-only":
                raise ServiceError(
                    "no endpoint can serve, and the policy endpoint-only forbids the CPU",
                    found="; ".join(fallback.reason for fallback in self.fallbacks),
                    hint="Start the server, correct inference.endpoints, or choose the policy endpoint-first",
                )
            else:
                self._current = _Connection(self._cpu(), is_cpu=True)
            if self._current is not None:
                self._connections.append(self._current)
        return self._current

    def _give_up(self, error: ServiceError | ModelError) -> None:
        self._current = None
        self.fallbacks.append(Fallback(self._patches, str(error)))
