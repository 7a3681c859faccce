"""The image payload: hits and the pixels around them, each pixel once, instead of one patch per hit.

Neighbouring patches show the same pixels hundreds of times. A request of this form carries one *canvas*: the parts of
the plane images that its hits see, stacked as rows of one image, so close that what no patch shows is left out and so
far apart that no patch shows a neighbour. The server cuts the patches (:mod:`protosonic.serving.image_model`).

The pixels that are not at the background come in ascending order of their place on the canvas, counted row by row, as
runs of neighbours; the hits in ascending order of their patch's upper left corner. Both orders make places small
differences: a pixel costs 4 bytes and its share of 3 bytes for the run, a hit 2 bytes. Values stay float32, so the
patches that the server cuts are those that would have been sent, bit for bit.

Every hit is a patch of its own, whatever the plane: canaries and blank patches are little planes with one hit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np

from protosonic.errors import ConfigError
from protosonic.inference.contract import TensorSpec
from protosonic.inference.image_canvas import HALF, SIZE, Canvas, encode_hits, encode_pixels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from protosonic.inference.image_canvas import SparseImage

__all__ = [
    "IMAGE_INPUTS",
    "MOST_CANVAS",
    "ImageHits",
    "ImageRequest",
    "PlaneHits",
    "is_image_model",
]

MOST_CANVAS = 2**24
"""Pixels of the largest canvas that a server accepts."""

IMAGE_INPUTS = {
    spec.name: spec
    for spec in (
        TensorSpec("run_gap", "UINT16", (None,)),
        TensorSpec("run_length", "UINT8", (None,)),
        TensorSpec("pixel_value", "FP32", (None,)),
        TensorSpec("hit_gap", "UINT16", (None,)),
        TensorSpec("columns", "INT32", (1,)),
        TensorSpec("background", "FP32", (1,)),
    )
}
"""The tensors of a request.

``run_gap``
    Pixels of the canvas between the end of the run before, or the beginning of the canvas, and each run.
``run_length``
    Pixels of each run, less one.
``pixel_value``
    Their values, run by run. Where a gap is too long, a run of one pixel at the background bridges it.
``hit_gap``
    Place of each patch's upper left corner, less that of the one before. 65,535 leads on and is no hit.
``columns``
    Width of the canvas; less than 48 means 48. The last patch ends in its last row.
``background``
    Value of all other pixels.
"""


class FullView(Protocol):
    """What must be known of the constants that images were made with (:class:`protosonic.images.profiles.Profile`)."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def full_view(self) -> bool:
        """Whether whole planes are binned."""

    @property
    def zero_level(self) -> float:
        """The background."""


class PlaneHits(NamedTuple):
    """Hits on one plane image.

    Attributes
    ----------
    image
        The image.
    row
        int [hits], the wire of each hit, within the image.
    column
        int [hits], its drift bin; any value.
    is_blank
        bool [hits], hits whose patch is all zeros instead.
    """

    image: SparseImage
    row: NDArray[Any]
    column: NDArray[Any]
    is_blank: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class ImageRequest:
    """An encoded request.

    Attributes
    ----------
    tensors
        Name → array, as :data:`IMAGE_INPUTS` says.
    n_scores
        Rows of the answer, in the order of the hits with the canaries around them.
    canvas
        Pixels of the canvas.
    """

    tensors: Mapping[str, NDArray[Any]]
    n_scores: int
    canvas: int

    @property
    def n_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


@dataclass(frozen=True)
class _Patch:
    """A patch as an image of its own, whose hit stands at [24][24]."""

    pixel: NDArray[np.int64]
    value: NDArray[np.float32]
    n_columns: int = SIZE

    @classmethod
    def of(cls, patch: NDArray[np.float32], background: np.float32) -> Self:
        values = patch.reshape(-1)
        # Not equal in bits rather than in value: −0.0 and NaN are pixels as well.
        pixel = np.flatnonzero(values.view(np.uint32) != background.view(np.uint32))
        return cls(pixel, values[pixel])


@dataclass(frozen=True, eq=False)
class ImageHits:
    """Hits in the order in which they are sent: plane by plane, row by row.

    Attributes
    ----------
    images
        The images.
    background
        Value of the pixels that they do not name.
    image, row, column
        int64 [n] each: number of the image, row and column of each hit.
    index
        int64 [n], place of each hit among those that were gathered.
    """

    images: Sequence[SparseImage]
    background: np.float32
    image: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    index: NDArray[np.int64]

    @classmethod
    def gather(cls, planes: Sequence[PlaneHits], profile: FullView) -> Self:
        """Put hits of several planes, also of several events, into the order in which they are sent.

        Parameters
        ----------
        planes
            The hits, numbered plane by plane.
        profile
            The constants that the images were made with.

        Raises
        ------
        ConfigError
            The profile bins every patch from the first tick of its own: such patches have no pixels in common, and can
            only be sent as patches.
        """
        if not profile.full_view:
            raise ConfigError(
                f"the image payload cannot carry patches of the profile {profile.name}",
                where="inference.payload",
                expected="a profile that bins whole planes",
                found="full_view false",
                hint="Send patches",
            )
        background = np.float32(profile.zero_level)
        images: list[SparseImage] = [plane.image for plane in planes]
        images.append(_Patch.of(np.zeros((SIZE, SIZE), np.float32), background))
        sizes = [len(plane.row) for plane in planes]
        image = np.repeat(np.arange(len(planes)), sizes)
        row, column = np.empty((2, len(image)), np.int64)
        is_blank = np.zeros(len(image), dtype=bool)
        for plane, end, size in zip(planes, np.cumsum(sizes), sizes, strict=True):
            own = slice(end - size, end)
            row[own] = plane.row
            # Farther outside of the image every patch is empty alike.
            column[own] = np.clip(plane.column, -HALF, plane.image.n_columns + HALF)
            if plane.is_blank is not None:
                is_blank[own] = plane.is_blank
        image[is_blank], row[is_blank], column[is_blank] = len(planes), HALF, HALF
        index = np.lexsort((column, row, image))
        return cls(images, background, image[index], row[index], column[index], index)

    @classmethod
    def of_patches(cls, patches: NDArray[np.float32], background: float = 0.0) -> Self:
        """Take patches, float32 [n, 48, 48], that are no part of an image, such as those of the golden batch."""
        level, n = np.float32(background), len(patches)
        middle = np.full(n, HALF)
        images = [_Patch.of(np.ascontiguousarray(patch, np.float32), level) for patch in patches]
        return cls(images, level, np.arange(n), middle, middle, np.arange(n))

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, part: slice) -> Self:
        return type(self)(
            self.images,
            self.background,
            self.image[part],
            self.row[part],
            self.column[part],
            self.index[part],
        )

    def encode(self, canaries: NDArray[np.float32] | None = None) -> ImageRequest:
        """Encode the hits, at least one, into one request.

        Parameters
        ----------
        canaries
            Patches, float32 [2, 48, 48], that go before and after the hits; or [0, 48, 48] for none.
        """
        hits = self._with_canaries(canaries)
        return hits._encode(Canvas.of(hits))

    def _encode(self, canvas: Canvas) -> ImageRequest:
        tensors = {
            **encode_pixels(*canvas.pixels(self), self.background),
            "hit_gap": encode_hits(canvas.row * canvas.columns + canvas.column),
            "columns": np.array([canvas.columns], np.int32),
            "background": np.array([self.background], np.float32),
        }
        return ImageRequest(tensors, len(self), canvas.n_pixels)

    def _with_canaries(self, canaries: NDArray[np.float32] | None) -> Self:
        if canaries is None or not len(canaries):
            return self
        first, last = (_Patch.of(np.ascontiguousarray(patch), self.background) for patch in canaries)
        n = len(self.images)
        return type(self)(
            [first, *self.images, last],
            self.background,
            np.concatenate([[0], self.image + 1, [n + 1]]),
            np.concatenate([[HALF], self.row, [HALF]]),
            np.concatenate([[HALF], self.column, [HALF]]),
            np.concatenate([[-1], self.index, [-1]]),
        )


def is_image_model(inputs: Sequence[TensorSpec]) -> bool:
    """Whether a model with these inputs takes image requests."""
    return len(inputs) == len(IMAGE_INPUTS) and all(IMAGE_INPUTS.get(spec.name) == spec for spec in inputs)
