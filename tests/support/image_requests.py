"""Hits of any number in requests of every size, as a dispatcher makes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from protosonic.inference.image_payload import MOST_CANVAS, ImageHits, ImageRequest


@dataclass(frozen=True)
class Limits:
    """How large a request may be: hits without the canaries, bytes of all tensors, pixels of the canvas."""

    hits: int = 4096
    tensor_bytes: int = 2**20
    canvas: int = MOST_CANVAS


def requests_of(
    hits: ImageHits, limits: Limits, canaries: NDArray[np.float32] | None = None
) -> Iterator[tuple[ImageHits, ImageRequest]]:
    """The hits of each request, and the request; a single hit may exceed the limits."""
    n = -(-len(hits) // limits.hits)
    ends = [number * len(hits) // max(n, 1) for number in range(n + 1)]
    for first, last in pairwise(ends):
        yield from _halved(hits[first:last], limits, canaries)


def _halved(
    hits: ImageHits, limits: Limits, canaries: NDArray[np.float32] | None
) -> Iterator[tuple[ImageHits, ImageRequest]]:
    request = hits.encode(canaries)
    fits = request.canvas <= limits.canvas and request.n_bytes <= limits.tensor_bytes
    if len(hits) == 1 or fits:
        yield hits, request
        return
    middle = len(hits) // 2
    yield from _halved(hits[:middle], limits, canaries)
    yield from _halved(hits[middle:], limits, canaries)
