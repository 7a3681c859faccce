"""Scores of hits on plane images."""

from __future__ import annotations

import functools
import logging
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import numpy as np

from protosonic.inference.sparse_engine.activity import Windows
from protosonic.inference.sparse_engine.compiled_kernel import CompiledKernel
from protosonic.inference.sparse_engine.groups import Plane, groups, unique_hits
from protosonic.inference.sparse_engine.network import Network
from protosonic.inference.sparse_engine.numpy_kernel import NumpyKernel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from protosonic.inference.sparse_engine.groups import Group, UniqueHits
    from protosonic.inference.sparse_engine.weights import CnnWeights

__all__ = ["Kernel", "SparseEngine", "default_kernel"]

log = logging.getLogger(__name__)


class Kernel(Protocol):
    """Evaluates the convolution and the first dense layer.

    Attributes
    ----------
    name
        For logs.
    """

    name: str

    def sums(
        self,
        network: Network,
        images: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]],
        windows: Windows,
    ) -> NDArray[np.float32]:
        """Compute the sums of the first dense layer, float32 [hits, 128].

        Parameters
        ----------
        network
            The weights.
        images
            Padded images, each with its active positions as indices into the flattened image. Active positions are
            numbered through all images.
        windows
            The active positions of the hits.
        """
        ...


class SparseEngine:
    """Evaluates the published network on plane images.

    It may be called from several threads at a time. Beside the weights (49 MB) and the images it holds, for each
    thread that computes, at most 40 MB, and 34 MB for the planes that it works on or one plane if that is larger. In a
    plane of more than 3,000 columns where nothing is empty it is 13 kB for each column instead of the 40 MB.

    Parameters
    ----------
    weights
        What :func:`~.recognise.recognise` found. The engine keeps a copy, so let go of them.
    background
        The value of empty pixels. Only speed depends on how many there are.
    threads
        Threads that compute a call; with one it is the caller's.
    kernel
        :func:`default_kernel` where none is given.
    """

    def __init__(
        self, weights: CnnWeights, background: float, threads: int = 1, kernel: Kernel | None = None
    ) -> None:
        self._network = Network(weights, background)
        self._background = background
        self._kernel = kernel or default_kernel()
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "sparse-engine") if threads > 1 else None

    def scores(
        self, image: NDArray[np.float32], rows: NDArray[np.integer], columns: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """Score hits on one image; the parameters are those of :class:`~.groups.Plane`.

        Returns
        -------
        float32 [n, 4], columns :data:`~protosonic.inference.contract.SCORE_NAMES`. Not finite where a patch is not.
        """
        return self.scores_of_planes([Plane(image, rows, columns)])[0]

    def scores_of_planes(self, planes: Iterable[Plane]) -> list[NDArray[np.float32]]:
        """Score hits on several images at once, which is faster when they are few on each.

        Parameters
        ----------
        planes
            Images with their hits; taken one by one, so that they need not be in memory all at the same time.

        Returns
        -------
        For each plane what :meth:`scores` gives.
        """
        found: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = []

        def hits() -> Iterator[tuple[NDArray[np.float32], UniqueHits, NDArray[np.float32]]]:
            for plane in planes:
                unique = unique_hits(plane)
                scores = np.empty((len(unique.rows), 4), np.float32)
                found.append((scores, unique.place))
                yield plane.image, unique, scores

        self._run(groups(hits(), self._background))
        return [scores[place] for scores, place in found]

    def close(self) -> None:
        """Stop its threads."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def _run(self, work: Iterator[Group]) -> None:
        if self._pool is None:
            for group in work:
                self._evaluate(group)
            return
        running: deque[Future[None]] = deque()
        for group in work:
            running.append(self._pool.submit(self._evaluate, group))
            if len(running) > self._threads:
                running.popleft().result()
        for future in running:
            future.result()

    def _evaluate(self, group: Group) -> None:
        images, windows, n_active = [], [], 0
        for strip in group.strips:
            corners = strip.activity.corners(strip.first_row, strip.end_row)
            found = strip.activity.windows(strip.rows, strip.columns)
            skipped = strip.activity.before_row(strip.rows[:1])
            windows.append(Windows(found.mask, found.first + (n_active - skipped)))
            images.append((strip.activity.padded, corners))
            n_active += len(corners)
        together = Windows(
            np.concatenate([part.mask for part in windows], axis=1),
            np.concatenate([part.first for part in windows], axis=1),
        )
        # What is not finite stays so, and whoever takes the scores tells.
        with np.errstate(invalid="ignore", over="ignore"):
            scores = self._network.finish(self._kernel.sums(self._network, images, together))
        start = 0
        for strip in group.strips:
            strip.scores[:] = scores[start : start + len(strip.rows)]
            start += len(strip.rows)


@functools.cache
def default_kernel() -> Kernel:
    """Give the compiled kernel, or NumPy's where there is none; says so in the log, once."""
    try:
        return CompiledKernel()
    except OSError as error:
        log.warning(
            "the compiled kernel cannot be used (%s): inference on the CPU will take about three times as long; "
            "with a C compiler, python -m protosonic.inference.sparse_engine.build makes it",
            error,
        )
        return NumpyKernel()
