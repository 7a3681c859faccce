"""Hits on random plane images, as batches."""

from __future__ import annotations

import numpy as np

from protosonic.images.profiles import Profile
from protosonic.inference.hits import HitsOnImage, ImageBatch
from support.image_hits import ZERO, Plane, random_plane


def on_image(plane: Plane, profile: Profile = ZERO) -> HitsOnImage:
    peak_time = np.clip(plane.drift_bin, -(2**20), 2**20).astype(np.float32) * profile.drift_window
    return HitsOnImage(plane.image, profile, plane.wire, plane.drift_bin, peak_time, plane.is_blank)


def random_batch(sizes: tuple[int, ...] = (150, 60, 0, 40), profile: Profile = ZERO) -> ImageBatch:
    """Planes of several shapes with so many hits each, some of them blank, far away or without any pixel."""
    shapes = ((300, 200), (60, 400), (10, 10), (30, 0))
    return ImageBatch(
        [
            on_image(random_plane(seed, shape, n, profile), profile)
            for seed, (shape, n) in enumerate(zip(shapes, sizes, strict=False))
        ]
    )
