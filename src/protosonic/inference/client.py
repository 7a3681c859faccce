"""The client library: scores from an endpoint in four steps, without workflow and configuration files."""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from protosonic.errors import DataError, ServiceError
from protosonic.inference.contract import SCORE_NAMES
from protosonic.inference.dispatcher import Dispatcher
from protosonic.inference.health import check_endpoint
from protosonic.inference.hits import PatchBatch
from protosonic.inference.triton_client import TritonClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from protosonic.inference.contract import Backend
    from protosonic.inference.endpoint_options import EndpointOptions
    from protosonic.inference.health import ServedModel
    from protosonic.inference.hits import HitBatch
    from protosonic.inference.statistics import EndpointStatistics

__all__ = ["Client", "Pending", "Prepared"]

_PATCH_SHAPE = (48, 48)


@dataclass(frozen=True)
class Prepared:
    """Patches that are ready to be sent, any number of times.

    Attributes
    ----------
    hits
        The hits.
    """

    hits: HitBatch

    def __len__(self) -> int:
        return len(self.hits)


class Pending:
    """Scores that are on their way; made by :meth:`Client.send`."""

    def __init__(self, client: Client, n_patches: int) -> None:
        self._client = client
        self._scores = np.empty((n_patches, len(SCORE_NAMES)), np.float32)
        self._n_done = 0
        self._error: Exception | None = None

    def __len__(self) -> int:
        return len(self._scores)

    @property
    def is_done(self) -> bool:
        """Whether :meth:`retrieve` returns, or raises, without waiting."""
        if not self._has_ended:
            self._client._receive_what_is_there()
        return self._has_ended

    def retrieve(self) -> NDArray[np.float32]:
        """Wait for the scores.

        Returns
        -------
        float32 [n, 4], columns :data:`protosonic.inference.SCORE_NAMES`, in the order of the patches; all are finite.

        Raises
        ------
        ServiceError
            The endpoint cannot serve: it was refused, it stayed away or overloaded for longer than the patience, or a
            request failed too often.
        ConfigError
            The bearer token or a file of certificates cannot be read.
        ModelError
            The local model is unusable.
        """
        while not self._has_ended:
            self._client._receive(lambda: self._has_ended)
        if self._error is not None:
            raise self._error
        return self._scores

    @property
    def _has_ended(self) -> bool:
        return self._error is not None or self._n_done == len(self)

    def _add(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the scores that it lacks from the first of some; gives the others."""
        mine = scores[: len(self) - self._n_done]
        self._scores[self._n_done : self._n_done + len(mine)] = mine
        self._n_done += len(mine)
        return scores[len(mine) :]


class Client:
    """A client of one endpoint that speaks the KServe v2 protocol, such as NVIDIA Triton.

    The four steps are: create the client; :meth:`prepare` patches; :meth:`send` them; :meth:`Pending.retrieve` their
    scores. :meth:`infer` takes the last three at once, :meth:`stream` does so for many batches and overlaps them.

    Patches are cut into requests of the size that the endpoint takes, as many under way as it answers in good time, and
    what fails is handled as in campaigns (:mod:`protosonic.inference.failure_policy`): overload is waited for, a
    failure that may pass is tried again after a back-off, a bounded number of times, and one that cannot pass is raised
    at once. Nothing is connected before the first call that needs it. After a failure the client can be used again; it
    then makes a new connection.

    Threads may share a client. A process that was forked must make its own.

    Parameters
    ----------
    options
        How to reach the endpoint.
    model
        ONNX file of the model that it should serve. Its scores prove the endpoint before it gets any work, and every
        single answer from then on: a wrong model under the right name, exchanged outputs or rows are refused. Without
        it only the contract is checked (names, types, shapes, finite scores); then use no endpoint that you do not
        trust.
    tolerance
        Largest difference of a score from that of the local model that is taken for equal.
    patience_s
        How long an overloaded endpoint is waited for, and one that has served and went away, in seconds.
    retries
        How often a request that failed is sent again.

    Examples
    --------
    >>> from protosonic.inference import SCORE_NAMES, Client, EndpointOptions
    >>> options = EndpointOptions("grpc://triton.example.org:8001", model="emtrkmichel", version="1")
    >>> with Client(options, Path("model.onnx")) as client:  # 1. create
    ...     prepared = client.prepare(patches)  # 2. prepare
    ...     pending = client.send(prepared)  # 3. send
    ...     scores = pending.retrieve()  # 4. retrieve
    >>> michel = scores[:, SCORE_NAMES.index("michel")]
    """

    def __init__(
        self,
        options: EndpointOptions,
        model: Path | None = None,
        *,
        tolerance: float = 1e-5,
        patience_s: float = 300.0,
        retries: int = 4,
    ) -> None:
        self.options = options
        self._model = model
        self._tolerance = tolerance
        self._patience_s = patience_s
        self._retries = retries
        self._pid = os.getpid()
        self._is_closed = False
        self._is_broken = False
        self._dispatcher = self._make_dispatcher()
        self._under_way: deque[Pending] = deque()
        self._order = threading.RLock()
        """Held where something is put into the dispatcher: it must stand in the same order in `_under_way`."""
        self._receiving = threading.RLock()
        """Held where scores are taken from the dispatcher."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.options})"

    @property
    def statistics(self) -> EndpointStatistics:
        """What was seen of the endpoint since the last failure that was raised: requests, retries, latencies."""
        return self._dispatcher.statistics[0]

    def describe(self) -> ServedModel:
        """Check the endpoint, over a connection of its own, and tell what it serves.

        Raises
        ------
        EndpointError
            The first thing that is wrong; ``failure`` and ``action`` say what it means. Nothing is tried again.
        ConfigError, ModelError
            As with :meth:`Pending.retrieve`.
        """
        reference = self._usable_dispatcher().reference()
        with closing(TritonClient(self.options)) as connection:
            return check_endpoint(connection, reference)

    def prepare(self, hits: NDArray[np.floating] | HitBatch) -> Prepared:
        """Check hits; patches are copied.

        Parameters
        ----------
        hits
            Patches, [n, 48, 48], rows are wires, columns drift bins, the hit at [24][24]; any n. Or places on plane
            images (:class:`protosonic.inference.ImageBatch`): some hundred times fewer bytes, where the options allow
            the payload ``image`` and the endpoint serves it.

        Raises
        ------
        ValueError
            The shape is another one.
        DataError
            A pixel is not finite: its score could not be either, and the endpoint would be blamed for it.
        """
        return Prepared(_checked(np.array(hits, np.float32) if isinstance(hits, np.ndarray) else hits))

    def send(self, prepared: Prepared) -> Pending:
        """Send patches; does not wait for their scores.

        What is under way is bounded: when it is as much as the endpoint may be sent at once, this waits until some
        scores have come. Failures are raised by :meth:`Pending.retrieve`.
        """
        while not self._has_room():
            self._receive(self._has_room)
        pending = Pending(self, len(prepared))
        with self._order:
            dispatcher = self._usable_dispatcher()
            if len(prepared):
                self._under_way.append(pending)
                dispatcher.put(prepared.hits)
        return pending

    def infer(self, hits: NDArray[np.floating] | HitBatch) -> NDArray[np.float32]:
        """Score hits and wait for it.

        Parameters
        ----------
        hits
            What :meth:`prepare` takes.

        Returns
        -------
        float32 [n, 4]; returns and raises what :meth:`prepare` and :meth:`Pending.retrieve` do.
        """
        checked = _checked(np.asarray(hits, np.float32) if isinstance(hits, np.ndarray) else hits)
        return self.send(Prepared(checked)).retrieve()

    def stream(self, batches: Iterable[NDArray[np.floating] | HitBatch]) -> Iterator[NDArray[np.float32]]:
        """Score batches while the next ones are made.

        Parameters
        ----------
        batches
            What :meth:`prepare` takes, each. They are taken from the iterator when there is room for them: what is held does not
            grow with their number. An array may be filled anew for the next batch.

        Yields
        ------
        The scores of each batch, float32 [n, 4], in the order of the batches; raises what :meth:`prepare` and
        :meth:`Pending.retrieve` do.
        """
        waiting: deque[Pending] = deque()
        for hits in batches:
            waiting.append(self.send(self.prepare(hits)))
            while waiting and waiting[0].is_done:
                yield waiting.popleft().retrieve()
        for pending in waiting:
            yield pending.retrieve()

    def close(self) -> None:
        """Close the connection; what is under way is given up."""
        if self._pid != os.getpid():
            return
        with self._order:
            self._is_closed = True
        error = ServiceError("the client was closed", file=str(self.options))
        self._dispatcher.fail(error)  # wakes the thread that waits for scores
        with self._receiving:
            self._give_up(error)

    def _usable_dispatcher(self) -> Dispatcher:
        self._check_process()
        with self._order:
            if self._is_closed:
                msg = "the client is closed"
                raise RuntimeError(msg)
            if self._is_broken:
                self._dispatcher, self._is_broken = self._make_dispatcher(), False
            return self._dispatcher

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            msg = "a Client was carried through a fork; make it in the process that uses it"
            raise RuntimeError(msg)

    def _has_room(self) -> bool:
        return self._is_broken or self._dispatcher.has_room()

    def _receive_what_is_there(self) -> None:
        if self._receiving.acquire(blocking=False):  # else another thread is at it
            try:
                self._receive(lambda: True)
            finally:
                self._receiving.release()

    def _receive(self, condition: Callable[[], bool]) -> None:
        """Take the next scores, after waiting for some or for a condition, and give them to whom they belong."""
        self._check_process()
        with self._receiving:
            if self._is_broken:
                return
            try:
                for scores, _ in self._dispatcher.take(condition):
                    self._distribute(scores)
            except ServiceError as error:
                self._give_up(error if self._is_closed else self._without_policies(error))
            except Exception as error:  # noqa: BLE001  (whoever waits for the scores raises it)
                self._give_up(error)
            except BaseException:  # scores may be lost between taking and giving
                self._give_up(
                    ServiceError("the scores were given up at an interrupt", file=str(self.options))
                )
                raise

    def _without_policies(self, error: ServiceError) -> ServiceError:
        return ServiceError(
            "the endpoint cannot serve",
            file=str(self.options),
            found=error.found or error.message,
            hint="Client.describe() and 'protosonic endpoint check' tell what is wrong now",
        )

    def _distribute(self, scores: NDArray[np.float32]) -> None:
        while len(scores):
            first = self._under_way[0]
            scores = first._add(scores)
            if first._has_ended:
                self._under_way.popleft()

    def _give_up(self, error: Exception) -> None:
        """Fail everything that is under way; what is sent next gets a new connection."""
        with self._order:
            was_broken, self._is_broken = self._is_broken, True
            for pending in self._under_way:
                pending._error = error
            self._under_way.clear()
        if not was_broken:
            self._dispatcher.close()

    def _make_dispatcher(self) -> Dispatcher:
        model = self._model

        def load() -> Backend:
            from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend

            assert model is not None
            return OnnxRuntimeBackend(model, threads=1)

        return Dispatcher(
            "endpoint-only",
            [self.options],
            load if model is not None else None,
            tolerance=self._tolerance,
            patience_s=self._patience_s,
            retries=self._retries,
        )


def _checked(hits: NDArray[np.float32] | HitBatch) -> HitBatch:
    if isinstance(hits, np.ndarray):
        return PatchBatch(_checked_patches(hits))
    for number, part in enumerate(hits.images() or ()):
        if not np.isfinite(part.image.value).all():
            raise DataError(
                "an image has a pixel that is not finite",
                code="not-finite",
                where=f"image {number}",
                hint="Mend what the image was made of",
            )
    return hits


def _checked_patches(patches: NDArray[np.float32]) -> NDArray[np.float32]:
    if patches.ndim != 3 or patches.shape[1:] != _PATCH_SHAPE:
        msg = f"patches must have the shape [n, 48, 48], but have {list(patches.shape)}"
        raise ValueError(msg)
    # Extremes need no array of the size of the patches, and NaN is one.
    extremes = [patches.min(axis=(1, 2), initial=0), patches.max(axis=(1, 2), initial=0)]
    bad = np.flatnonzero(~np.isfinite(extremes).all(axis=0))
    if len(bad):
        raise DataError(
            f"{len(bad)} of {len(patches)} patches have a pixel that is not finite",
            code="not-finite",
            where=f"patch {bad[0]}",
            hint="Mend what the patches were cut from",
        )
    return patches
