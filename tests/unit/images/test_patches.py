"""Golden values of patches, the fiducial flag and the duplicate flag."""

from __future__ import annotations

import numpy as np
import pytest

from protosonic.images.patches import PatchCutter, in_fiducial, repeats_previous
from protosonic.images.plane_image import CalibratedCharge, PlaneImage, PlaneKey, drift_bins, plane_image
from protosonic.images.profiles import Profile, load_profile
from support import reference

SP = load_profile("protodune-sp-2021")
OLD = load_profile("protodune-sp-2019")
KEY = PlaneKey(0, 1, 2)


def sparse(image: np.ndarray, zero: float = 0.0) -> PlaneImage:
    pixel = np.flatnonzero(image.ravel() != zero)
    return PlaneImage(KEY, *image.shape, pixel, image.ravel()[pixel].astype(np.float32))


def cut_one(image: np.ndarray, wire: int, column: int, profile: Profile = SP) -> np.ndarray:
    cutter = PatchCutter(sparse(image, profile.zero_level), profile)
    time = np.float32(column * profile.drift_window + 1)
    return cutter.cut(np.array([wire], np.int32), np.array([column]), np.array([time]))[0]


def test_the_hit_stands_at_row_24_column_24_with_wires_as_rows():
    image = np.zeros((480, 1000))
    image[100, 500], image[101, 500], image[100, 502] = 1.0, 2.0, 3.0
    patch = cut_one(image, 100, 500)
    assert patch.shape == (48, 48)
    assert patch.dtype == np.float32
    assert (patch[24, 24], patch[25, 24], patch[24, 26]) == (1.0, 2.0, 3.0)
    assert np.count_nonzero(patch) == 3


def test_the_window_reaches_from_24_before_to_23_after_the_hit():
    image = np.zeros((480, 1000))
    for row, column in ((76, 476), (123, 523), (75, 500), (124, 500), (100, 475), (100, 524)):
        image[row, column] = 1.0
    patch = cut_one(image, 100, 500)
    assert [index.tolist() for index in np.nonzero(patch)] == [[0, 47], [0, 47]]


@pytest.mark.parametrize(
    ("wire", "column", "inside"),
    [
        (0, 0, (slice(24, 48), slice(24, 48))),
        (479, 999, (slice(0, 25), slice(0, 25))),
        (0, 500, (slice(24, 48), slice(0, 48))),
        (240, 999, (slice(0, 48), slice(0, 25))),
    ],
)
def test_what_lies_outside_of_the_image_is_at_the_zero_level(wire, column, inside):
    uneven = Profile("uneven", adc_min=-5.0, adc_max=15.0, out_min=0.0, out_max=1.0)
    patch = cut_one(np.ones((480, 1000)), wire, column, uneven)
    assert np.all(patch[inside] == 1.0)
    outside = np.ones((48, 48), dtype=bool)
    outside[inside] = False
    assert np.all(patch[outside] == 0.25)


@pytest.mark.parametrize("column", [-25, -(2**30), 1024, 2**30])
def test_a_hit_far_outside_of_the_readout_has_an_empty_patch(column):
    assert not cut_one(np.ones((480, 1000)), 240, column).any()


def test_hits_just_outside_of_the_readout_see_its_edge():
    image = np.ones((480, 1000))
    assert np.all(cut_one(image, 240, -1)[:, 25:] == 1.0)
    assert not cut_one(image, 240, -1)[:, :25].any()
    assert np.all(cut_one(image, 240, 1023)[:, :1] == 1.0)
    assert not cut_one(image, 240, 1023)[:, 1:].any()


def test_patches_equal_a_second_implementation_everywhere_in_an_image():
    rng = np.random.default_rng(5)
    image = np.where(rng.random((60, 90)) < 0.3, rng.normal(0, 5, (60, 90)), 0).astype(np.float32)
    wires, columns = map(np.ravel, np.meshgrid(np.arange(60), np.arange(-30, 121), indexing="ij"))
    times = (columns * 6 + 2.5).astype(np.float32)
    cutter = PatchCutter(sparse(image), SP)
    found = cutter.cut(wires.astype(np.int32), drift_bins(times, SP), times)
    for index in rng.choice(len(wires), 400, replace=False):
        np.testing.assert_array_equal(found[index], reference.patch(image, wires[index], times[index]))


def test_the_same_patch_comes_out_whatever_the_batch():
    rng = np.random.default_rng(6)
    image = rng.normal(0, 5, (480, 1000)).astype(np.float32)
    wires, bins = rng.integers(0, 480, 50).astype(np.int32), rng.integers(0, 1000, 50)
    times = (bins * 6).astype(np.float32)
    cutter = PatchCutter(sparse(image), SP)
    whole = cutter.cut(wires, bins, times)
    single = [cutter.cut(wires[i : i + 1], bins[i : i + 1], times[i : i + 1])[0] for i in range(50)]
    np.testing.assert_array_equal(whole, single)


class TestWithoutFullView:
    """The profile of 2019: each patch is binned from its own first tick, near tick 0 moved instead of padded."""

    @staticmethod
    def cut(make_event, regions, time, profile=OLD):
        event = make_event(regions)
        image = plane_image(CalibratedCharge(event, profile), event.detector, KEY, profile)
        times = np.array([time], np.float32)
        return PatchCutter(image, profile).cut(np.array([100], np.int32), drift_bins(times, profile), times)[
            0
        ]

    def test_bins_start_144_ticks_before_the_whole_tick_of_the_hit(self, make_event):
        # The hit is at tick 1003.7, so the patch starts at tick 859 and column 24 is ticks 1003 to 1008.
        plain = Profile(
            "old", adc_min=-50.0, adc_max=150.0, full_view=False, lifetime_us=None, amplitude=(1, 1, 1)
        )
        patch = self.cut(make_event, {2180: [(1002, [60.0, 120.0])]}, 1003.7, plain)
        # 60 in column 23 and 120 in column 24: means 10 and 20; the map is (x + 50) / 10 - 5 = x / 10.
        assert patch[24, 22:26] == pytest.approx([0, 1.0, 2.0, 0], abs=1e-6)

    def test_lifetime_is_that_of_the_absolute_tick(self, make_event):
        # Factor at tick 3000 is 1.03636; 60 / 6 × 1.03636 × 1.363636 / 10 = 1.41322.
        patch = self.cut(make_event, {2180: [(3000, [60.0])]}, 3000.0)
        assert patch[24, 24] == pytest.approx(1.41322, abs=1e-5)

    def test_near_tick_0_the_window_is_moved_and_its_end_stays_empty(self, make_event):
        plain = Profile(
            "old", adc_min=-50.0, adc_max=150.0, full_view=False, lifetime_us=None, amplitude=(1, 1, 1)
        )
        # A hit at tick 30: the window would be -114 to 174. It starts at 0, so the hit is in column 5; ticks from 174
        # on are not read, although the patch has room for them.
        patch = self.cut(make_event, {2180: [(30, [60.0]), (173, [60.0, 60.0])]}, 30.0, plain)
        assert np.flatnonzero(patch[24]).tolist() == [5, 28]
        assert patch[24, [5, 28]] == pytest.approx([1.0, 1.0], abs=1e-6)


def test_fiducial_region_keeps_six_wires_and_six_bins_away_from_the_edges():
    wire = np.array([5, 6, 473, 474, 240, 240, 240, 240], np.int32)
    bins = np.array([500, 500, 500, 500, 5, 6, 993, 994])
    expected = [False, True, True, False, False, True, True, False]
    assert in_fiducial(wire, bins, 480, 1000).tolist() == expected


def test_planes_too_small_for_margins_have_no_fiducial_region():
    wire = np.arange(11, dtype=np.int32)
    assert not in_fiducial(wire, np.full(11, 50), 11, 1000).any()
    assert not in_fiducial(wire, np.full(11, 5), 5, 1000).any()


class TestRepeatedPositions:
    @staticmethod
    def flags(positions, profile=SP, previous=None):
        wire = np.array([wire for wire, _ in positions], np.int32)
        time = np.array([time for _, time in positions], np.float32)
        flags, last = repeats_previous(wire, drift_bins(time, profile), time, profile, previous)
        return flags.tolist(), last

    def test_a_hit_in_the_wire_and_bin_of_the_hit_before_is_flagged(self):
        positions = [(7, 600.0), (7, 605.9), (7, 606.0), (8, 606.0), (7, 606.0), (7, 607.0), (7, 608.0)]
        assert self.flags(positions)[0] == [False, True, False, False, False, True, True]

    def test_only_the_immediately_preceding_hit_counts(self):
        assert self.flags([(7, 600.0), (9, 600.0), (7, 600.0)])[0] == [False, False, False]

    def test_the_position_is_carried_from_plane_to_plane(self):
        _, last = self.flags([(7, 600.0)])
        assert self.flags([(7, 601.0), (8, 601.0)], previous=last)[0] == [True, False]
        assert self.flags([], previous=last) == ([], last)

    def test_the_first_hit_of_an_event_is_never_flagged(self):
        assert self.flags([(0, 0.0)])[0] == [False]

    def test_without_full_view_a_time_is_compared_with_the_whole_ticks_before(self):
        # LArSoft keeps the time before as a whole number and compares it with the new time as it is.
        assert self.flags([(7, 600.4), (7, 600.0), (7, 600.4), (8, 600.0)], OLD)[0] == [
            False,
            True,
            False,
            False,
        ]
