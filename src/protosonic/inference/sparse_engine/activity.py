"""Where a plane image is not empty: the positions at which the convolution sees a pixel that is not background."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from protosonic.images.profiles import PATCH_SIZE
from protosonic.inference.sparse_engine.weights import KERNEL, POSITIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Activity", "Windows"]

HALF = PATCH_SIZE // 2
_WORD = 64
_WINDOW = np.uint64((1 << POSITIONS) - 1)


class Windows(NamedTuple):
    """The active positions in the patches of some hits.

    Attributes
    ----------
    mask
        uint64 [44, hits]: bit j of [i, hit] says whether position (i, j) of the patch is active.
    first
        int64 [44, hits]: number of the first active position of each row of the patch; the others of the row follow.
    """

    mask: NDArray[np.uint64]
    first: NDArray[np.int64]


class Activity:
    """A plane image with a border of background that holds every patch, and its active positions.

    A position is numbered by the first pixel that it sees, (row, column) in the image with its border. The patch of a
    hit at (r, c) of the image has its positions from (r + 24, c + 24) on. Active positions are numbered row by row.

    Parameters
    ----------
    image
        float32 [rows, columns].
    background
        The value of empty pixels, inside and outside.

    Attributes
    ----------
    padded
        float32 [rows + 96, at least columns + 96].
    """

    def __init__(self, image: NDArray[np.float32], background: float) -> None:
        n_rows, n_columns = image.shape
        width = -(-(n_columns + 2 * PATCH_SIZE) // _WORD) * _WORD
        self.padded = np.full((n_rows + 2 * PATCH_SIZE, width), background, np.float32)
        self.padded[PATCH_SIZE : PATCH_SIZE + n_rows, PATCH_SIZE : PATCH_SIZE + n_columns] = image
        pixels = np.packbits(self.padded != np.float32(background), axis=1, bitorder="little").view("<u8")
        pixels = _any_of_next(pixels, np.zeros((KERNEL - 1, pixels.shape[1]), np.uint64))
        self._bits = _any_of_next_bits(pixels)
        count = np.bitwise_count(self._bits).astype(np.int64)
        self._before = np.cumsum(count).reshape(count.shape) - count
        self._total = int(count.sum())

    def before_row(self, row: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count the active positions before rows of positions."""
        before: NDArray[np.int64] = np.append(self._before[:, 0], self._total)[row]
        return before

    def corners(self, first_row: int, end_row: int) -> NDArray[np.int64]:
        """List the active positions of some rows, as indices into the flattened padded image."""
        active = np.unpackbits(self._bits[first_row:end_row].view(np.uint8), axis=1, bitorder="little")
        corners: NDArray[np.int64] = np.flatnonzero(active) + first_row * self.padded.shape[1]
        return corners

    def windows(self, row: NDArray[np.int64], column: NDArray[np.int64]) -> Windows:
        """Find the active positions in the patches of hits; `row` and `column` are those of their first positions."""
        word, shift = np.divmod(column, _WORD)
        rows = row + np.arange(POSITIONS)[:, None]
        here = self._bits[rows, word]
        following = self._bits[rows, np.minimum(word + 1, self._bits.shape[1] - 1)]
        bit = shift.astype(np.uint64)
        one = np.uint64(1)
        # In two steps, because a shift by the whole word is undefined.
        mask = (here >> bit) | (following << one << (np.uint64(_WORD - 1) - bit))
        first = self._before[rows, word] + np.bitwise_count(here & ((one << bit) - one))
        return Windows(mask & _WINDOW, first)


def _any_of_next(pixels: NDArray[np.uint64], below: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """For every row, or together the rows that a position there sees."""
    n_rows = len(pixels)
    extended = np.concatenate([pixels, below])
    result = pixels.copy()
    for offset in range(1, KERNEL):
        result |= extended[offset : offset + n_rows]
    return result


def _any_of_next_bits(pixels: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """For every bit, or together the bits of the row that a position there sees."""
    following = np.zeros_like(pixels)
    following[:, :-1] = pixels[:, 1:]
    result = pixels.copy()
    for offset in range(1, KERNEL):
        result |= (pixels >> np.uint64(offset)) | (following << np.uint64(_WORD - offset))
    return result
