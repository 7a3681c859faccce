"""The sparse evaluation in NumPy, for installations without the compiled kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from protosonic.inference.sparse_engine.weights import FEATURES, HIDDEN, KERNEL, POSITIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from protosonic.inference.sparse_engine.activity import Windows
    from protosonic.inference.sparse_engine.network import Network

__all__ = ["NumpyKernel"]

_TOGETHER = 4
"""Neighbouring positions of a row that share a matrix product: fewer mean smaller products, more mean more zeros."""
_CONVOLVED = 1 << 14


class NumpyKernel:
    """Matrix products over the hits that are active at the same positions of their patches."""

    name = "numpy"

    def sums(
        self,
        network: Network,
        images: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]],
        windows: Windows,
    ) -> NDArray[np.float32]:
        """Compute the sums of the first dense layer; see :class:`~.engine.Kernel`."""
        features = _features(network, images)
        nowhere = len(features) - 1
        sums = np.repeat(network.empty[None], windows.mask.shape[1], axis=0)
        column = np.arange(POSITIONS, dtype=np.uint64)
        for mask, first, dense in zip(windows.mask, windows.first, network.dense, strict=True):
            active = ((mask[:, None] >> column) & np.uint64(1)).astype(bool)
            number = np.where(active, first[:, None] + np.cumsum(active, axis=1) - 1, nowhere)
            for start in range(0, POSITIONS, _TOGETHER):
                part = slice(start, start + _TOGETHER)
                hits = np.flatnonzero(active[:, part].any(axis=1))
                if len(hits):
                    seen = features[number[hits, part]].reshape(len(hits), -1)
                    sums[hits] += seen @ dense[part].reshape(-1, HIDDEN)
        return sums


def _features(
    network: Network, images: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]]
) -> NDArray[np.float32]:
    """Convolve at the active positions; the 49th feature is 1. The last row is zero, for inactive positions."""
    features = np.zeros((sum(len(corners) for _, corners in images) + 1, FEATURES + 1), np.float32)
    kernel = network.kernel.reshape(-1, FEATURES)
    filled = 0
    for image, corners in images:
        sees = (np.arange(KERNEL)[:, None] * image.shape[1] + np.arange(KERNEL)).reshape(-1)
        pixels = image.reshape(-1)
        for start in range(0, len(corners), _CONVOLVED):
            seen = pixels[corners[start : start + _CONVOLVED, None] + sees]
            rows = features[filled : filled + len(seen)]
            rows[:, :FEATURES] = np.maximum(seen @ kernel + network.bias, 0)
            rows[:, FEATURES] = 1
            filled += len(seen)
    return features
