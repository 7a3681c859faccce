"""Inference on the CPU with the sparse engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from protosonic.images.profiles import PATCH_SIZE
from protosonic.inference.contract import check_finite
from protosonic.inference.hits import PatchBatch
from protosonic.inference.sparse_engine.engine import SparseEngine
from protosonic.inference.sparse_engine.groups import Plane

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from protosonic.inference.hits import HitBatch, HitsOnImage
    from protosonic.inference.sparse_engine.weights import CnnWeights

__all__ = ["SparseBackend"]

HALF = PATCH_SIZE // 2
BATCH_HITS = 4096
"""A few groups of the engine: their images are made dense once."""
MOST_PATCHES = 512
"""Patches, each of its own, that are held at a time."""


class SparseBackend:
    """Runs the published network on plane images, only where they are not empty.

    Every call computes in its caller's thread alone, as with :class:`~.onnxruntime_backend.OnnxRuntimeBackend`.

    Parameters
    ----------
    weights
        What :func:`protosonic.inference.sparse_engine.recognise.recognise` found.
    background
        The value of the pixels that most images hold most of.
    threads
        Calls at the same time.
    what
        What the model is called in errors.
    """

    name = "onnxruntime"
    """The dataset names the kind of backend; the status file names the engine."""
    engine = "sparse"

    def __init__(self, weights: CnnWeights, background: float, threads: int, *, what: str) -> None:
        self.batch_size = BATCH_HITS
        self.concurrency = threads
        self._background = np.float32(background)
        self._what = what
        self._engine = SparseEngine(weights, background)

    def infer(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute scores; see :class:`protosonic.inference.contract.Backend`."""
        return self.score(PatchBatch(patches))

    def score(self, hits: HitBatch) -> NDArray[np.float32]:
        """Compute scores of hits, all at once."""
        images = hits.images()
        if images is None:
            starts = range(0, len(hits), MOST_PATCHES)
            scores = self._engine.scores_of_planes(
                _side_by_side(hits.cut(start, MOST_PATCHES).patches()) for start in starts
            )
        else:
            *scores, [blank] = self._engine.scores_of_planes(self._planes(images))
            for part, found in zip(images, scores, strict=True):
                found[part.is_blank] = blank
        joined = np.concatenate([np.empty((0, 4), np.float32), *scores])
        check_finite(joined, what=self._what)
        return joined

    def close(self) -> None:
        """Release the weights."""
        self._engine.close()

    def _planes(self, images: tuple[HitsOnImage, ...]) -> Iterator[Plane]:
        """Give the part of each image that its hits see, and at the end a blank patch."""
        for hits in images:
            if np.float32(hits.profile.zero_level) != self._background:
                yield _side_by_side(hits.patches())
                continue
            first, end = int(hits.wire.min()) - HALF, int(hits.wire.max()) + HALF
            image = hits.image.wires(max(first, 0), min(end, hits.image.n_wires))
            yield Plane(image.dense(hits.profile.zero_level), hits.wire - max(first, 0), hits.drift_bin)
        yield _side_by_side(np.zeros((1, PATCH_SIZE, PATCH_SIZE), np.float32))


def _side_by_side(patches: NDArray[np.float32]) -> Plane:
    """Put patches, float32 [n, 48, 48], one below the other."""
    n = len(patches)
    rows = HALF + PATCH_SIZE * np.arange(n)
    return Plane(patches.reshape(n * PATCH_SIZE, PATCH_SIZE), rows, np.full(n, HALF))
