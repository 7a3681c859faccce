"""Chooses the backend of every batch, as the policy says, and keeps a record of the choice."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from protosonic.errors import ConfigError, ModelError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from protosonic.inference.contract import Backend

__all__ = ["Dispatcher", "Fallback", "Policy", "prefetch"]

Policy = Literal["endpoint-first", "endpoint-only", "cpu-only"]
Item = TypeVar("Item")


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
    used
        The backends that were connected, in order.
    """

    def __init__(
        self, policy: Policy, endpoints: Sequence[Callable[[], Backend]], cpu: Callable[[], Backend]
    ) -> None:
        if policy != "cpu-only" and not endpoints:
            raise ConfigError(f"policy {policy} needs an endpoint", where="inference.endpoints")
        self._policy = policy
        self._waiting = [] if policy == "cpu-only" else list(endpoints)
        self._cpu = cpu
        self._current: Backend | None = None
        self._on_cpu = False
        self._patches = 0
        self.fallbacks: list[Fallback] = []
        self.used: list[Backend] = []

    @property
    def batch_size(self) -> int:
        """Patches per batch that suit the present backend; connects to it."""
        return self._connected().batch_size

    def infer(self, patches: NDArray[np.float32]) -> tuple[NDArray[np.float32], str]:
        """Score a batch.

        Parameters
        ----------
        patches
            float32 [n, 48, 48].

        Returns
        -------
        Scores, float32 [n, 4], and the name of the backend that made them.

        Raises
        ------
        ServiceError
            No endpoint can serve and the policy forbids the CPU.
        ModelError
            The local model is unusable.
        """
        while True:
            backend = self._connected()
            try:
                scores = backend.infer(patches)
            except (ServiceError, ModelError) as error:
                if self._on_cpu:
                    raise
                self._give_up(error)
            else:
                self._patches += len(patches)
                return scores, backend.name

    def close(self) -> None:
        """Release all backends."""
        for backend in self.used:
            backend.close()

    def _connected(self) -> Backend:
        while self._current is None:
            if self._waiting:
                try:
                    self._current = self._waiting.pop(0)()
                except ServiceError as error:
                    self._give_up(error)
            elif self._policy == "endpoint-only":
                raise ServiceError(
                    "no endpoint can serve, and the policy endpoint-only forbids the CPU",
                    found="; ".join(fallback.reason for fallback in self.fallbacks),
                    hint="Start the server, correct inference.endpoints, or choose the policy endpoint-first",
                )
            else:
                self._current = self._cpu()
                self._on_cpu = True
            if self._current is not None:
                self.used.append(self._current)
        return self._current

    def _give_up(self, error: ServiceError | ModelError) -> None:
        self._current = None
        self.fallbacks.append(Fallback(self._patches, str(error)))


def prefetch(items: Iterable[Item], depth: int = 2) -> Iterator[Item]:
    """Make items in a thread, so that the next batch is prepared while the present one is scored.

    Parameters
    ----------
    items
        What to iterate over; its errors are raised where its item would have come.
    depth
        Most items that wait; bounds memory.
    """
    waiting: queue.Queue[tuple[Item | None, BaseException | None, bool]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(entry: tuple[Item | None, BaseException | None, bool]) -> None:
        while not stopped.is_set():
            try:
                waiting.put(entry, timeout=0.1)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for item in items:
                put((item, None, False))
                if stopped.is_set():
                    return
        except BaseException as error:  # noqa: BLE001  (it is raised in the other thread)
            put((None, error, True))
        else:
            put((None, None, True))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error, is_last = waiting.get()
            if error is not None:
                raise error
            if is_last:
                return
            yield item  # type: ignore[misc]  # only the last entry has no item
    finally:
        stopped.set()
        thread.join()
