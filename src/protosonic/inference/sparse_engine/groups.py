"""Groups of hits that are evaluated together.

All weights are read once for a group, so that it must be large; what it holds must stay in the caches, so that it must
not be too large. Hits that stand at the same place are evaluated once, and groups run across planes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from protosonic.images.profiles import PATCH_SIZE
from protosonic.inference.sparse_engine.activity import HALF, Activity
from protosonic.inference.sparse_engine.weights import POSITIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

__all__ = ["Group", "Plane", "Strip", "groups", "unique_hits"]

MAX_HITS = 1024
"""Hits of a group."""
MAX_ACTIVE = 1 << 17
"""Active positions of a group, at most 300 bytes each; one row of hits may have more."""
MAX_PIXELS = 1 << 23
"""Pixels of the planes of a group; one plane may have more."""


class Plane(NamedTuple):
    """Hits on a plane image.

    Attributes
    ----------
    image
        float32 [rows, columns]; outside of it is background.
    rows, columns
        Integers [n]: where the hits stand, also outside of the image. The patch of a hit is
        image[row − 24 : row + 24, column − 24 : column + 24].
    """

    image: NDArray[np.float32]
    rows: NDArray[np.integer]
    columns: NDArray[np.integer]


class UniqueHits(NamedTuple):
    """Places of hits in ascending order of row and column, int64 [m], and which of them each hit has, int64 [n]."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    place: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Strip:
    """Hits of one plane that follow each other.

    Attributes
    ----------
    activity
        The plane.
    rows, columns
        int64 [n]: the first position of each hit's patch; rows ascend.
    scores
        float32 [n, 4], to be filled.
    """

    activity: Activity
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    scores: NDArray[np.float32]

    @property
    def first_row(self) -> int:
        """First row of positions that the hits see."""
        return int(self.rows[0])

    @property
    def end_row(self) -> int:
        """End of the rows of positions that the hits see."""
        return int(self.rows[-1]) + POSITIONS


@dataclass(eq=False)
class Group:
    """Hits that are evaluated together."""

    strips: list[Strip] = field(default_factory=list)
    n_hits: int = 0
    n_active: int = 0
    n_pixels: int = 0

    def add(self, strip: Strip, n_active: int) -> None:
        """Add a strip with so many active positions."""
        if not self.strips or self.strips[-1].activity is not strip.activity:
            self.n_pixels += strip.activity.padded.size
        self.strips.append(strip)
        self.n_hits += len(strip.rows)
        self.n_active += n_active


def unique_hits(plane: Plane) -> UniqueHits:
    """Find the different places of the hits; those whose patch is empty because they are far outside count as one."""
    n_rows, n_columns = plane.image.shape
    row = np.clip(plane.rows.astype(np.int64), -HALF, n_rows + HALF) + HALF
    column = np.clip(plane.columns.astype(np.int64), -HALF, n_columns + HALF) + HALF
    places, place = np.unique(row * (n_columns + PATCH_SIZE + 1) + column, return_inverse=True)
    rows, columns = np.divmod(places, n_columns + PATCH_SIZE + 1)
    return UniqueHits(rows - HALF, columns - HALF, place.reshape(-1))


def groups(
    planes: Iterable[tuple[NDArray[np.float32], UniqueHits, NDArray[np.float32]]], background: float
) -> Iterator[Group]:
    """Put hits into groups.

    Parameters
    ----------
    planes
        Image, hits, and the array float32 [m, 4] that takes their scores.
    background
        The value of empty pixels.
    """
    group = Group()
    for image, hits, scores in planes:
        if not len(hits.rows):
            continue
        activity = Activity(image, background)
        rows, columns = hits.rows + HALF, hits.columns + HALF
        before, through = activity.before_row(rows), activity.before_row(rows + POSITIONS)
        if group.strips and group.n_pixels + activity.padded.size > MAX_PIXELS:
            yield group
            group = Group()
        start = 0
        while start < len(rows):
            end = start + MAX_HITS - group.n_hits
            fitting = int(np.searchsorted(through, before[start] + MAX_ACTIVE - group.n_active, "right"))
            if not group.strips:
                fitting = max(fitting, int(np.searchsorted(rows, rows[start], "right")))
            end = min(end, fitting, len(rows))
            if end > start:
                part = slice(start, end)
                strip = Strip(activity, rows[part], columns[part], scores[part])
                group.add(strip, int(through[end - 1] - before[start]))
                start = end
            if start < len(rows):
                yield group
                group = Group()
    if group.strips:
        yield group
