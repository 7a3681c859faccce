"""The canvas of an image request, and how places on it become small differences."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "BRIDGE",
    "HALF",
    "SIZE",
    "Canvas",
    "SparseImage",
    "decode_patches",
    "encode_hits",
    "encode_pixels",
]

SIZE = 48
HALF = SIZE // 2
BRIDGE = 2**16 - 1
"""A gap of the hits that leads on without a hit."""
LONGEST_RUN = 2**8
BLOCK = 8
"""Columns that are shown or left out together."""


class SparseImage(Protocol):
    """A plane image as :class:`protosonic.images.plane_image.PlaneImage` holds it."""

    @property
    def n_columns(self) -> int:
        """Columns."""

    @property
    def pixel(self) -> NDArray[np.int64]:
        """``row * n_columns + column`` of the pixels that are not at the background, ascending."""

    @property
    def value(self) -> NDArray[np.float32]:
        """Their values, float32."""


class _Hits(Protocol):
    """Hits in ascending order of image, row and column, int64 [n] each; `image` is an index of `images`."""

    @property
    def images(self) -> Sequence[SparseImage]: ...
    @property
    def image(self) -> NDArray[np.int64]: ...
    @property
    def row(self) -> NDArray[np.int64]: ...
    @property
    def column(self) -> NDArray[np.int64]: ...


@dataclass(frozen=True)
class Canvas:
    """Where the patches of some hits stand on their canvas.

    Hits of one image whose patches, or those of hits between them, have rows in common stand as in the image. Such groups
    stand one below the other and begin at the left, so that the canvas is small where hits are few.

    Attributes
    ----------
    row, column
        int64 [n], upper left corner of each patch; hits in their order have ascending corners.
    rows, columns
        Its shape.
    """

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    rows: int
    columns: int

    @classmethod
    def of(cls, hits: _Hits) -> Self:
        """Place the patches of hits, of at least one."""
        step = np.where(np.diff(hits.image) != 0, SIZE, np.minimum(np.diff(hits.row), SIZE))
        row = np.concatenate([[0], np.cumsum(step)])
        starts = np.concatenate([[0], np.flatnonzero(step == SIZE) + 1])
        leftmost = np.minimum.reduceat(hits.column, starts)
        column = hits.column - np.repeat(leftmost, np.diff(starts, append=len(row)))
        return cls(row, column, int(row[-1]) + SIZE, int(column.max()) + SIZE)

    @property
    def n_pixels(self) -> int:
        """Its size."""
        return self.rows * self.columns

    def pixels(self, hits: _Hits) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Place the pixels that some patch shows: ``row * columns + column`` on the canvas, ascending, and values."""
        starts = np.flatnonzero(np.diff(hits.image, prepend=-1))
        placed, values = [], []
        for first, last in pairwise([*starts.tolist(), len(hits.row)]):
            own = slice(first, last)
            image = hits.images[int(hits.image[first])]
            place, value = self._pixels_of(
                image, hits.row[own], hits.column[own], self.row[own], self.column[own]
            )
            placed.append(place)
            values.append(value)
        return np.concatenate(placed), np.concatenate(values)

    def _pixels_of(
        self,
        image: SparseImage,
        hit_row: NDArray[np.int64],
        hit_column: NDArray[np.int64],
        corner_row: NDArray[np.int64],
        corner_column: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Place the pixels of one image."""
        begin, end = np.searchsorted(
            image.pixel, (hit_row[[0, -1]] + (-HALF, HALF)) * image.n_columns
        ).tolist()
        row, column = np.divmod(image.pixel[begin:end], image.n_columns)
        is_first = np.diff(hit_row, prepend=hit_row[0] - 1) != 0
        rows = hit_row[is_first]
        # The hits whose patches show a row of pixels are those of the rows from `above` to `below`.
        above = np.searchsorted(rows, row - (HALF - 1))
        below = np.searchsorted(rows, row + HALF, side="right")
        keep = np.flatnonzero(above < below)
        row, column, above, below = row[keep], column[keep], above[keep], below[keep]
        row += (corner_row - hit_row + HALF)[is_first][above]
        column += (corner_column - hit_column + HALF)[is_first][above]
        # How many patches of the hits in the rows before each show each block of columns. Single columns instead of
        # blocks would save 0.5 % of the pixels and cost three times the time.
        width = int(corner_column.max()) + SIZE
        shown = np.zeros((len(rows) + 1, width // BLOCK + 2), np.int32)
        line = np.cumsum(is_first)
        np.add.at(shown, (line, corner_column // BLOCK), 1)
        np.add.at(shown, (line, (corner_column + SIZE - 1) // BLOCK + 1), -1)
        np.cumsum(shown, axis=1, out=shown)
        np.cumsum(shown, axis=0, out=shown)
        inside = np.flatnonzero((column >= 0) & (column < width))
        row, column, above, below = row[inside], column[inside], above[inside], below[inside]
        is_shown = shown[below, column // BLOCK] > shown[above, column // BLOCK]
        return row[is_shown] * self.columns + column[is_shown], image.value[begin:end][keep[inside[is_shown]]]


def encode_pixels(
    place: NDArray[np.int64], value: NDArray[np.float32], background: np.float32
) -> dict[str, NDArray[Any]]:
    """Turn ascending places into runs of neighbours; there is always at least one."""
    gap = np.diff(place, prepend=-1) - 1
    if not len(place):
        place, value, gap = np.zeros(1, np.int64), np.full(1, background), np.zeros(1, np.int64)
    n_bridges = gap >> 16
    if n_bridges.any():
        n = np.cumsum(n_bridges + 1)
        steps = np.full(n[-1], 2**16)
        steps[n - 1] = gap + 1 - (n_bridges << 16)
        bridged = np.full(n[-1], background)
        bridged[n - 1] = value
        place, value = np.cumsum(steps) - 1, bridged
        gap = steps - 1
    in_run = np.arange(len(place))
    in_run -= np.maximum.accumulate(np.where(gap != 0, in_run, 0))
    starts = np.flatnonzero(in_run % LONGEST_RUN == 0)
    return {
        "run_gap": gap[starts].astype(np.uint16),
        "run_length": (np.diff(starts, append=len(place)) - 1).astype(np.uint8),
        "pixel_value": value,
    }


def encode_hits(place: NDArray[np.int64]) -> NDArray[np.uint16]:
    """Turn ascending places of corners into differences."""
    gap = np.diff(place, prepend=0)
    n = np.cumsum(gap // BRIDGE + 1)
    bridged = np.full(n[-1], BRIDGE, np.uint16)
    bridged[n - 1] = gap % BRIDGE
    return bridged


def decode_patches(tensors: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Cut the patches of a request as its server does, float32 [n, 48, 48], in the order of the request."""
    gap = tensors["hit_gap"]
    corner = np.cumsum(gap, dtype=np.int64)
    columns = max(int(tensors["columns"][0]), SIZE)
    rows = int(corner[-1]) // columns + SIZE
    length = tensors["run_length"].astype(np.int64) + 1
    step = np.ones(len(tensors["pixel_value"]), np.int64)
    step[np.cumsum(length) - length] += tensors["run_gap"]
    canvas = np.full(rows * columns, tensors["background"][0], np.float32)
    canvas[np.cumsum(step) - 1] = tensors["pixel_value"]
    windows = np.lib.stride_tricks.sliding_window_view(canvas.reshape(rows, columns), (SIZE, SIZE))
    return windows[np.divmod(corner[gap < BRIDGE], columns)]
