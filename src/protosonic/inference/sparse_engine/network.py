"""The weights prepared for sparse evaluation, and the layers after the first dense one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from protosonic.inference.sparse_engine.weights import FEATURES, HIDDEN, POSITIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from protosonic.inference.sparse_engine.weights import CnnWeights

__all__ = ["Network"]

_CACHE_LINE = 64


class Network:
    """The network relative to its response to an empty patch.

    Parameters
    ----------
    weights
        The weights; they are copied.
    background
        The value of empty pixels.

    Attributes
    ----------
    kernel, bias
        The convolution, float32 [5, 5, 48] and [48].
    dense
        float32 [44, 44, 49, 128]: the first dense layer by position. The 49th row is what an active position adds
        without any feature: minus what an empty one contributes.
    empty
        float32 [128]: the sums of the first dense layer for an empty patch.
    """

    def __init__(self, weights: CnnWeights, background: float) -> None:
        self.kernel = np.ascontiguousarray(weights.kernel)
        self.bias = np.ascontiguousarray(weights.bias)
        kernel_sum = weights.kernel.sum(axis=(0, 1), dtype=np.float64)
        feature = np.maximum(weights.bias + np.float32(background) * kernel_sum, 0)
        self.dense = _aligned((POSITIONS, POSITIONS, FEATURES + 1, HIDDEN))
        self.dense[:, :, :FEATURES] = weights.dense_1
        empty = weights.bias_1.astype(np.float64)
        for row, row_weights in zip(self.dense, weights.dense_1, strict=True):  # small intermediates
            contribution = np.einsum("f,jfn->jn", feature, row_weights.astype(np.float64))
            row[:, FEATURES] = -contribution
            empty += contribution.sum(axis=0)
        self.empty = empty.astype(np.float32)
        self._dense_2, self._bias_2 = weights.dense_2, weights.bias_2
        self._classes, self._classes_bias = weights.classes, weights.classes_bias
        self._michel, self._michel_bias = weights.michel, weights.michel_bias

    def finish(self, sums: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute scores, float32 [n, 4], from the sums of the first dense layer, float32 [n, 128]."""
        scores = np.empty((len(sums), 4), np.float32)
        hidden = np.maximum(np.maximum(sums, 0) @ self._dense_2 + self._bias_2, 0)
        classes = hidden @ self._classes + self._classes_bias
        powers = np.exp(classes - classes.max(axis=1, keepdims=True))
        scores[:, :3] = powers / powers.sum(axis=1, keepdims=True)
        michel = hidden @ self._michel + self._michel_bias
        power = np.exp(-np.abs(michel))  # never overflows
        scores[:, 3:] = np.where(michel >= 0, np.float32(1), power) / (1 + power)
        return scores


def _aligned(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Make an array that starts at a cache line: a vector that lies across two costs twice."""
    size = int(np.prod(shape))
    buffer = np.empty(size + _CACHE_LINE // 4, np.float32)
    first = -buffer.ctypes.data % _CACHE_LINE // 4
    return buffer[first : first + size].reshape(shape)
