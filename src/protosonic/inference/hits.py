"""Hits on their way to a backend: as patches that are cut already, or as places on plane images."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from protosonic.images.patches import PatchCutter
from protosonic.images.profiles import PATCH_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from protosonic.images.plane_image import PlaneImage
    from protosonic.images.profiles import Profile

__all__ = ["HitBatch", "HitsOnImage", "ImageBatch", "PatchBatch"]


class HitBatch(Protocol):
    """Consecutive hits of a job."""

    def __len__(self) -> int:
        """Give the number of hits."""
        ...

    def cut(self, first: int, n: int) -> HitBatch:
        """Give the `n` hits from the `first` on."""
        ...

    def patches(self) -> NDArray[np.float32]:
        """Give their patches, float32 [n, 48, 48]."""
        ...

    def images(self) -> tuple[HitsOnImage, ...] | None:
        """Give their places on plane images; ``None`` where patches are not windows of an image."""
        ...


@dataclass(frozen=True)
class PatchBatch:
    """Hits as patches.

    Attributes
    ----------
    array
        float32 [n, 48, 48].
    """

    array: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.array)

    def cut(self, first: int, n: int) -> PatchBatch:
        """Give the `n` hits from the `first` on."""
        return PatchBatch(self.array[first : first + n])

    def patches(self) -> NDArray[np.float32]:
        """Give the array."""
        return self.array

    def images(self) -> None:
        """Nothing is known of where they were cut."""


class _SharedCutter:
    """The cutter of an image, made when its first patch is cut; threads share it."""

    def __init__(self, image: PlaneImage, profile: Profile) -> None:
        self._image = image
        self._profile = profile
        self._lock = threading.Lock()
        self._cutter: PatchCutter | None = None

    def get(self) -> PatchCutter:
        with self._lock:
            if self._cutter is None:
                self._cutter = PatchCutter(self._image, self._profile)
            return self._cutter


class HitsOnImage:
    """Hits on one plane image.

    Parameters
    ----------
    image
        The image.
    profile
        The constants that it was made with.
    wire, drift_bin, peak_time
        Place of each hit, as :meth:`protosonic.images.patches.PatchCutter.cut` takes them.
    is_blank
        Hits that get a patch of zeros; by default none.

    Attributes
    ----------
    image, wire, drift_bin, is_blank
        As given.
    """

    def __init__(
        self,
        image: PlaneImage,
        profile: Profile,
        wire: NDArray[np.int32],
        drift_bin: NDArray[np.int32],
        peak_time: NDArray[np.float32],
        is_blank: NDArray[np.bool_] | None = None,
        *,
        cutter: _SharedCutter | None = None,
    ) -> None:
        self.image = image
        self.profile = profile
        self.wire = wire
        self.drift_bin = drift_bin
        self.is_blank = np.zeros(len(wire), bool) if is_blank is None else is_blank
        self._peak_time = peak_time
        self._cutter = cutter or _SharedCutter(image, profile)

    def __len__(self) -> int:
        return len(self.wire)

    def cut(self, first: int, n: int) -> HitsOnImage:
        """Give the `n` hits from the `first` on."""
        part = slice(first, first + n)
        return HitsOnImage(
            self.image,
            self.profile,
            self.wire[part],
            self.drift_bin[part],
            self._peak_time[part],
            self.is_blank[part],
            cutter=self._cutter,
        )

    def patches(self) -> NDArray[np.float32]:
        """Cut the patches, float32 [n, 48, 48]."""
        patches = self._cutter.get().cut(self.wire, self.drift_bin.astype(np.int64), self._peak_time)
        if self.is_blank.any():
            patches[self.is_blank] = 0.0
        return patches


class ImageBatch:
    """Hits on several plane images.

    Parameters
    ----------
    parts
        The hits of each image, in order.
    """

    def __init__(self, parts: Sequence[HitsOnImage]) -> None:
        self._parts = tuple(part for part in parts if len(part))
        self._n = sum(map(len, self._parts))

    def __len__(self) -> int:
        return self._n

    def cut(self, first: int, n: int) -> ImageBatch:
        """Give the `n` hits from the `first` on."""
        parts = []
        for part in self._parts:
            start, end = max(first, 0), min(first + n, len(part))
            if start < end:
                parts.append(part.cut(start, end - start))
            first -= len(part)
        return ImageBatch(parts)

    def patches(self) -> NDArray[np.float32]:
        """Cut their patches, float32 [n, 48, 48]."""
        empty = np.empty((0, PATCH_SIZE, PATCH_SIZE), np.float32)
        return np.concatenate([empty, *(part.patches() for part in self._parts)])

    def images(self) -> tuple[HitsOnImage, ...] | None:
        """Give the hits by image; ``None`` where each patch is binned from its own first tick (no full view)."""
        return self._parts if all(part.profile.full_view for part in self._parts) else None
