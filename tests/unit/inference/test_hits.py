"""Hits as patches and as places on images."""

from __future__ import annotations

import numpy as np
import pytest

from protosonic.images.profiles import Profile, load_profile
from protosonic.inference.hits import ImageBatch, PatchBatch
from support.hit_batches import on_image, random_batch
from support.image_hits import UNEVEN, ZERO, cut, random_plane

NO_FULL_VIEW = load_profile("protodune-sp-2019")


@pytest.mark.parametrize("profile", [ZERO, UNEVEN])
def test_patches_are_those_of_the_images_in_order(profile: Profile) -> None:
    planes = [random_plane(seed, (200, 100), 50, profile) for seed in range(3)]
    batch = ImageBatch([on_image(plane, profile) for plane in planes])
    assert len(batch) == 150
    np.testing.assert_array_equal(batch.patches(), cut(planes, profile))


@pytest.mark.parametrize(
    ("first", "n"), [(0, 250), (0, 1), (149, 2), (100, 100), (210, 40), (249, 1), (5, 0)]
)
def test_parts_of_a_batch_are_parts_of_its_patches(first: int, n: int) -> None:
    batch = random_batch()
    part = batch.cut(first, n)
    assert len(part) == n
    np.testing.assert_array_equal(part.patches(), batch.patches()[first : first + n])
    np.testing.assert_array_equal(
        PatchBatch(batch.patches()).cut(first, n).patches(), batch.patches()[first : first + n]
    )


def test_images_without_hits_are_left_out() -> None:
    images = random_batch((150, 60, 0, 40)).images()
    assert images is not None
    assert [len(part) for part in images] == [150, 60, 40]


def test_patches_that_are_binned_one_by_one_are_no_windows_of_an_image() -> None:
    assert random_batch(profile=NO_FULL_VIEW).images() is None
    assert PatchBatch(np.zeros((2, 48, 48), np.float32)).images() is None
