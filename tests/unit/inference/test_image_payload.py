"""Image requests: what is encoded is decoded to the same patches, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2
from tritonclient.utils import np_to_triton_dtype

from protosonic.errors import ConfigError
from protosonic.images.plane_image import PlaneImage, PlaneKey
from protosonic.images.profiles import Profile, load_profile
from protosonic.inference.contract import OUTPUTS, PATCH_BYTES, TensorSpec
from protosonic.inference.golden import golden_patches
from protosonic.inference.image_canvas import decode_patches
from protosonic.inference.image_payload import (
    IMAGE_INPUTS,
    MOST_CANVAS,
    ImageHits,
    ImageRequest,
    is_image_model,
)
from support.image_hits import (
    REAL_FILES,
    UNEVEN,
    ZERO,
    Plane,
    cut,
    gather,
    planes_of,
    random_plane,
    real_events,
    sparse,
)
from support.image_requests import Limits, requests_of

CANARIES = golden_patches()[[3, 8]]
PROFILES = st.sampled_from([ZERO, UNEVEN])


def assert_same_bits(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.uint32), np.ascontiguousarray(expected).view(np.uint32))


def one_plane(image: PlaneImage, *positions: tuple[int, int]) -> list[Plane]:
    wire, drift_bin = np.array(positions, np.int32).reshape(-1, 2).T
    return [Plane(image, wire, drift_bin)]


def check(
    planes: list[Plane], profile: Profile = ZERO, canaries: NDArray[np.float32] | None = None
) -> ImageRequest:
    """Encode all hits into one request and compare what is decoded."""
    hits = gather(planes, profile)
    request = hits.encode(canaries)
    expected = cut(planes, profile)[hits.index]
    if canaries is not None:
        expected = np.concatenate([canaries[:1], expected, canaries[1:]])
    assert_same_bits(decode_patches(request.tensors), expected)
    assert request.n_scores == len(expected)
    assert {name: spec.dtype for name, spec in IMAGE_INPUTS.items()} == {
        name: np_to_triton_dtype(tensor.dtype) for name, tensor in request.tensors.items()
    }
    return request


@given(data=st.data(), profile=PROFILES)
def test_the_decoded_patches_are_those_that_would_be_sent(data: st.DataObject, profile: Profile) -> None:
    planes = data.draw(planes_of(profile))
    if sum(len(plane.wire) for plane in planes):
        check(planes, profile, data.draw(st.sampled_from([None, CANARIES])))


@settings(max_examples=40)
@given(
    data=st.data(),
    profile=PROFILES,
    limits=st.builds(Limits, st.integers(1, 300), st.integers(0, 20_000), st.integers(48 * 48, 500_000)),
)
def test_requests_keep_their_limits_and_hold_every_hit_once(
    data: st.DataObject, profile: Profile, limits: Limits
) -> None:
    planes = data.draw(planes_of(profile))
    hits, expected = gather(planes, profile), cut(planes, profile)
    found = np.full_like(expected, np.nan)
    for part, request in requests_of(hits, limits, CANARIES):
        patches = decode_patches(request.tensors)
        assert len(part) <= limits.hits
        assert len(part) == 1 or (request.n_bytes <= limits.tensor_bytes and request.canvas <= limits.canvas)
        assert_same_bits(patches[[0, -1]], CANARIES)
        found[part.index] = patches[1:-1]
    assert sorted(hits.index) == list(range(len(expected)))
    assert_same_bits(found, expected)


@given(data=st.data(), profile=PROFILES)
def test_any_part_of_the_hits_can_be_cut_here(data: st.DataObject, profile: Profile) -> None:
    planes = data.draw(planes_of(profile))
    hits = gather(planes, profile)
    first, last = sorted(data.draw(st.lists(st.integers(0, len(hits)), min_size=2, max_size=2)))
    part = hits[first:last]
    assert len(part) == last - first
    expected = cut(planes, profile)[hits.index[first:last]]
    assert len(part) == len(expected)
    if len(part):
        assert_same_bits(decode_patches(part.encode().tensors), expected)


@pytest.mark.parametrize(
    "column", [0, 1, 23, 24, 299, 298, -1, -23, -24, -25, 300, 323, 324, 325, -(2**30), 2**30]
)
@pytest.mark.parametrize("wire", [0, 1, 24, 98, 99])
def test_a_single_hit_anywhere_at_and_outside_of_the_borders(wire: int, column: int) -> None:
    dense = np.random.default_rng(1).uniform(-5, 15, (100, 300)).astype(np.float32)
    check(one_plane(sparse(dense), (wire, column)))
    check(one_plane(sparse(dense, UNEVEN.zero_level), (wire, column)), UNEVEN, CANARIES)


def test_hits_that_have_rows_of_pixels_in_common_or_barely_not() -> None:
    dense = np.random.default_rng(2).uniform(-5, 15, (400, 60)).astype(np.float32)
    for distance in (0, 1, 46, 47, 48, 49, 95, 96, 97):
        check(one_plane(sparse(dense), (30, 30), (30 + distance, 5), (200, 50), (200 + distance, 0)))


def test_duplicate_hits_each_have_a_patch() -> None:
    dense = np.random.default_rng(3).uniform(-5, 15, (50, 50)).astype(np.float32)
    request = check(one_plane(sparse(dense), *[(20, 20)] * 5, (21, 20), (20, 20)))
    assert request.n_scores == 7


def test_planes_without_pixels_and_without_columns() -> None:
    empty = sparse(np.zeros((10, 20), np.float32))
    request = check(one_plane(empty, (5, 5)))
    assert [len(request.tensors[name]) for name in ("run_gap", "run_length", "pixel_value")] == [1, 1, 1]
    check(one_plane(sparse(np.zeros((10, 0), np.float32)), (5, 5), (0, -70)), UNEVEN)
    check([*one_plane(empty), *one_plane(empty, (1, 1)), *one_plane(empty)])


def test_nothing_to_send_makes_no_request() -> None:
    hits = gather(one_plane(sparse(np.ones((10, 20), np.float32))))
    assert list(requests_of(hits, Limits(), CANARIES)) == []
    assert len(hits) == 0


def test_blank_hits_have_a_patch_of_zeros_whatever_the_zero_level() -> None:
    for profile in (ZERO, UNEVEN):
        plane = random_plane(4, (80, 90), 30, profile)
        check([plane._replace(is_blank=np.arange(30) % 3 == 0)], profile, CANARIES)
        check([plane._replace(is_blank=np.ones(30, dtype=bool))], profile)


def test_values_are_kept_to_the_last_bit() -> None:
    values = np.array([-0.0, 1e-45, np.nan, -np.inf, 3.4e38, np.float32(1) / 3], np.float32)
    image = PlaneImage(PlaneKey(0, 0, 0), 10, 20, np.arange(6, dtype=np.int64) * 7, values)
    check(one_plane(image, (5, 5)))
    patches = np.tile(values, 2304 // 6 * 2).reshape(2, 48, 48)
    assert_same_bits(decode_patches(ImageHits.of_patches(patches).encode().tensors), patches)


@pytest.mark.parametrize("length", [255, 256, 257, 511, 512, 513, 900])
def test_runs_of_any_length(length: int) -> None:
    dense = np.zeros((30, 1000), np.float32)
    dense[10, 40 : 40 + length] = np.arange(1, length + 1)
    check(one_plane(sparse(dense), *[(10, column) for column in range(0, 1000, 20)]))


@pytest.mark.parametrize("gap", [65534, 65535, 65536, 65537, 131069, 131070, 131071, 131072, 196608])
def test_gaps_of_any_length_between_pixels_and_between_hits(gap: int) -> None:
    """The hits at the left and right end make the canvas as wide as the image, and the other two move along it."""
    for n_columns in (gap + 1, gap + 47, gap + 48, gap + 49, gap // 2 + 30):
        dense = np.zeros((60, n_columns), np.float32)
        dense[30, [0, gap % n_columns]] = 1.0, 2.0
        dense[59, n_columns - 1] = 3.0
        positions = (
            (0, 0),
            (30, gap % n_columns),
            (30, 0),
            (30, n_columns),
            (59, n_columns - 1),
            (59, gap % n_columns),
        )
        check(one_plane(sparse(dense), *positions))
        check(one_plane(sparse(dense), *positions), ZERO, CANARIES)


def test_pixels_far_from_all_hits_are_not_sent() -> None:
    dense = np.ones((400, 1000), np.float32)
    request = check(one_plane(sparse(dense), (100, 500), (110, 510)))
    shown = 48 * 58 + 10 * 48 + 10 * 10
    assert shown - 200 < len(request.tensors["pixel_value"]) < 58 * (58 + 2 * 8)


def test_hits_of_different_planes_and_far_apart_share_a_small_canvas() -> None:
    dense = np.ones((3000, 1000), np.float32)
    request = check([*one_plane(sparse(dense), (10, 900), (2900, 5)), *one_plane(sparse(dense), (10, 100))])
    assert request.canvas == 3 * 48 * 48


def test_the_golden_batch_is_encoded_as_it_is() -> None:
    hits = ImageHits.of_patches(golden_patches())
    assert_same_bits(decode_patches(hits.encode().tensors), golden_patches())
    assert_same_bits(
        decode_patches(ImageHits.of_patches(golden_patches(), 0.25).encode().tensors), golden_patches()
    )


def test_without_a_local_model_there_are_no_canaries() -> None:
    planes = [random_plane(5, (80, 90), 30)]
    request = gather(planes).encode(np.empty((0, 48, 48), np.float32))
    assert_same_bits(decode_patches(request.tensors), cut(planes)[gather(planes).index])


def test_a_profile_that_bins_every_patch_for_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"protodune-sp-2019.*Send patches"):
        gather([random_plane(6, (80, 90), 3)], load_profile("protodune-sp-2019"))


def test_an_image_model_is_known_by_its_inputs() -> None:
    inputs = list(IMAGE_INPUTS.values())
    assert is_image_model(inputs[::-1])
    assert not is_image_model(inputs[1:])
    assert not is_image_model([*inputs, TensorSpec("more", "FP32", (None,))])
    assert not is_image_model([replace(inputs[0], dtype="INT32"), *inputs[1:]])
    assert not is_image_model([TensorSpec("main_input", "FP32", (None, 48, 48, 1))])


def message_bytes(request: ImageRequest) -> int:
    """Size of the message that is sent."""
    message = service_pb2.ModelInferRequest(
        model_name="emtrkmichel_image",
        model_version="1",
        outputs=[{"name": name} for name in OUTPUTS],
        inputs=[
            {"name": name, "datatype": IMAGE_INPUTS[name].dtype, "shape": values.shape}
            for name, values in request.tensors.items()
        ],
        raw_input_contents=[values.tobytes() for values in request.tensors.values()],
    )
    return int(message.ByteSize())


@pytest.mark.realdata
@pytest.mark.parametrize("name", REAL_FILES)
def test_real_files_come_through_bit_for_bit_in_a_two_hundredth_of_the_bytes(
    realdata: Path, name: str
) -> None:
    """Requests span the events of a file, as batches of patches do."""
    planes = [plane for event in real_events(realdata, name) for plane in event]
    hits, expected = gather(planes), cut(planes)
    n_bytes = 0
    is_found = np.zeros(len(expected), dtype=bool)
    for part, request in requests_of(hits, Limits(), CANARIES):
        assert_same_bits(decode_patches(request.tensors)[1:-1], expected[part.index])
        assert request.canvas <= MOST_CANVAS
        is_found[part.index] = True
        n_bytes += message_bytes(request)
    assert len(is_found) > 900
    assert is_found.all()
    assert 200 * n_bytes <= len(is_found) * PATCH_BYTES
