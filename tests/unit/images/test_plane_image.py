"""Golden values of plane images. The numbers in comments were worked out on paper from the formulas of LArSoft."""

from __future__ import annotations

import numpy as np
import pytest

from protosonic.errors import DataError
from protosonic.images.plane_image import (
    CalibratedCharge,
    PlaneKey,
    drift_bins,
    lifetime_correction,
    plane_groups,
    plane_image,
    scale_charge,
)
from protosonic.images.profiles import Profile, load_profile, profile_names
from support import reference

SP = load_profile("protodune-sp-2021")
PLAIN = Profile("plain", lifetime_us=None, amplitude=(1.0, 1.0, 1.0))
# TPC 1 is the face of APA 0 towards the cathode; its collection wire w is channel 2080 + w.
W_PLANE = PlaneKey(0, 1, 2)
FIRST_W = 2080


def dense(event, key=W_PLANE, profile=SP):
    charge = CalibratedCharge(event, profile)
    return plane_image(charge, event.detector, key, profile).dense(profile.zero_level)


def test_one_window_of_unit_charge_has_the_value_worked_out_by_hand(make_event):
    # Ticks 600 to 605 are drift bin 100. Their lifetime factors are exp((t - 500) * 0.5 / 35000):
    #   1.00142959, 1.00144390, 1.00145820, 1.00147251, 1.00148682, 1.00150113; mean 1.00146536.
    # Amplitude 1.2e-3 / 0.88e-3 = 1.36363636 gives 1.36563458; the map to the network is (x + 10) / 2 - 5 = x / 2.
    image = dense(make_event({FIRST_W + 7: [(600, [1.0] * 6)]}))
    assert image.shape == (480, 1000)
    assert image[7, 100] == pytest.approx(0.68281729, abs=2e-7)
    assert np.count_nonzero(image) == 1


@pytest.mark.parametrize(
    ("plane", "channel", "wire", "expected"),
    [
        # 6.0 in tick 500 alone, where the lifetime factor is 1: mean 1.0, times the plane's constant, halved.
        (0, 400, 0, 0.6642311),  # 1.2 / 0.9033 / 2
        (1, 1547, 0, 0.5832604),  # 1.2 / 1.0287 / 2
        (2, 2080, 0, 0.6818182),  # 1.2 / 0.8800 / 2
    ],
)
def test_each_plane_has_its_amplitude_constant(make_event, plane, channel, wire, expected):
    image = dense(make_event({channel: [(500, [6.0])]}), PlaneKey(0, 1, plane))
    assert image[wire, 83] == pytest.approx(expected, abs=1e-6)


def test_lifetime_correction_has_the_published_values():
    factors = lifetime_correction(SP, 0.5, 6000)
    assert factors.dtype == np.float32
    assert factors[[0, 500, 3000, 5999]] == pytest.approx([0.99288, 1.0, 1.03636, 1.08173], abs=5e-6)


def test_the_mean_divides_by_six_also_where_only_some_ticks_hold_charge(make_event):
    image = dense(make_event({FIRST_W: [(1, [3.0]), (4, [9.0])]}), profile=PLAIN)
    assert image[0, 0] == 1.0  # (3 + 9) / 6 = 2, halved


def test_charge_that_straddles_two_windows_is_shared(make_event):
    image = dense(make_event({FIRST_W: [(10, [6.0, 6.0, 6.0, 6.0])]}), profile=PLAIN)
    assert image[0, 1:4].tolist() == [1.0, 1.0, 0.0]  # two ticks of 6 in each window: 12 / 6 / 2


def test_clipping_comes_after_averaging_and_after_the_amplitude(make_event):
    # One tick of 240 averages to 40, which is clipped to 30 and mapped to 15; clipping first would give 5 / 2.
    image = dense(make_event({FIRST_W: [(0, [240.0])], FIRST_W + 1: [(0, [-90.0])]}), profile=PLAIN)
    assert image[0, 0] == 15.0
    assert image[1, 0] == -5.0  # -15 is clipped to -10
    # 25 is below the limit, but 25 × 1.3636 is above it.
    assert scale_charge(np.array([25.0], np.float32), SP, 2)[0] == 15.0


def test_the_zero_level_is_computed_from_the_ranges():
    assert SP.zero_level == 0.0
    assert load_profile("protodune-sp-2019").zero_level == 0.0
    assert Profile("shifted", out_min=-1.0, out_max=3.0).zero_level == 0.0
    assert Profile("uneven", adc_min=-5.0, adc_max=15.0, out_min=0.0, out_max=1.0).zero_level == 0.25


def test_rows_without_charge_are_at_a_zero_level_that_is_not_zero(make_event):
    uneven = Profile("uneven", adc_min=-5.0, adc_max=15.0, out_min=0.0, out_max=1.0, lifetime_us=None)
    image = dense(make_event({FIRST_W: [(0, [1.0])]}), profile=uneven)
    assert np.unique(image[1:]).tolist() == [0.25]


def test_a_wrapped_channel_stands_on_each_of_its_wires(make_event):
    # Channel 0 of ProtoDUNE-SP: on TPC 0, plane U, wires 0 and 800; on TPC 1, plane U, wire 400.
    event = make_event({0: [(500, [6.0])]})
    value = np.float32(1.2 / 0.9033 / 2)
    for tpc, wires in ((0, [0, 800]), (1, [400])):
        image = dense(event, PlaneKey(0, tpc, 0))
        assert image.shape == (1148, 1000)
        assert np.flatnonzero(image[:, 83]).tolist() == wires
        assert image[wires, 83] == pytest.approx(value, abs=1e-6)


def test_in_channel_space_a_row_is_a_channel_of_the_readout_unit(make_event):
    # APA 1 (TPCs 2 and 3) holds channels 2560 …; its plane V starts at 3360.
    image = dense(make_event({3360 + 5: [(500, [6.0])]}), PlaneKey(0, 2, 1, in_wire_space=False))
    assert image.shape == (800, 1000)
    assert [index.tolist() for index in np.nonzero(image)] == [[5], [83]]


def test_bad_channels_stay_at_the_zero_level(make_event):
    image = dense(make_event({FIRST_W: [(0, [6.0])], FIRST_W + 1: [(0, [6.0])]}, bad_channels=[FIRST_W]))
    assert not image[0].any()
    assert image[1, 0] != 0


def test_waveforms_shorter_than_the_window_are_skipped_and_longer_ones_cut(make_event):
    event = make_event(
        {FIRST_W: [(0, [6.0])], FIRST_W + 1: [(0, [6.0]), (6001, [6.0])]},
        n_samples={FIRST_W: 5999, FIRST_W + 1: 6400},
    )
    image = dense(event)
    assert not image[0].any()
    assert np.count_nonzero(image[1]) == 1


def test_ticks_after_the_last_whole_window_are_dropped(make_event):
    event = make_event({FIRST_W: [(5993, [6.0, 6.0, 6.0])]}, n_ticks=5999)
    image = dense(event)
    assert image.shape == (480, 999)
    assert np.flatnonzero(image[0]).tolist() == [998]  # tick 5993 is its last; 5994 and 5995 are dropped


def test_images_equal_a_second_implementation_on_random_waveforms(make_event):
    rng = np.random.default_rng(3)
    regions = {
        int(channel): [(int(start), rng.normal(8, 12, int(rng.integers(1, 80))).tolist())]
        for channel, start in zip(
            rng.choice(2560, 300, replace=False), rng.integers(0, 5900, 300), strict=True
        )
    }
    event = make_event(regions, n_ticks=5999)
    waveforms = {}
    for channel, ((start, values),) in regions.items():
        waveforms[channel] = np.zeros(6100)
        waveforms[channel][start : start + len(values)] = np.array(values, np.float32)
    for key in (W_PLANE, PlaneKey(0, 0, 0), PlaneKey(0, 1, 1)):
        channels = event.detector.tables[key.tpc, key.plane].tolist()
        expected = reference.plane_image(waveforms, channels, key.plane, 5999)
        assert np.count_nonzero(expected) > 300
        np.testing.assert_allclose(dense(event, key), expected, atol=3e-6)


@pytest.mark.parametrize(
    ("time", "expected"),
    [(0.0, 0), (5.99, 0), (6.0, 1), (3001.5, 500), (5999.9, 999), (-0.1, -1), (-6.0, -1), (-6.1, -2)],
)
def test_drift_bins_are_quotients_cut_to_whole_numbers(time, expected):
    assert drift_bins(np.array([time], np.float32), SP).tolist() == [expected]


def test_drift_bins_divide_in_single_precision():
    # 5999.9997 is the largest float32 below 6000; its quotient by 6 rounds to 1000 in single precision.
    time = np.nextafter(np.float32(6000), np.float32(0))
    assert drift_bins(np.array([time]), SP).tolist() == [int(np.float32(time) / np.float32(6))]


def test_drift_bins_of_absurd_times_are_bounded():
    bins = drift_bins(np.array([3e38, -3e38], np.float32), SP)
    assert bins.tolist() == [2**30, -(2**30)]


@pytest.mark.parametrize("time", [np.nan, np.inf, -np.inf])
def test_drift_bins_refuse_times_that_are_not_finite(time):
    with pytest.raises(DataError) as caught:
        drift_bins(np.array([1.0, time], np.float32), SP)
    assert caught.value.code == "not-finite"


def test_hits_are_grouped_by_plane_in_order_of_the_collection(make_event):
    hits = make_event({}, [(2, 1, 5, 10), (1, 2, 9, 20), (1, 0, 3, 30), (1, 2, 4, 40), (2, 1, 1, 50)]).hits
    groups = plane_groups(hits, (0, 1, 2))
    assert {(key.tpc, key.plane): members.tolist() for key, members in groups.items()} == {
        (1, 0): [2],
        (1, 2): [1, 3],
        (2, 1): [0, 4],
    }
    assert list(groups) == sorted(groups)
    assert list(plane_groups(hits, (2,))) == [PlaneKey(0, 1, 2)]
    assert plane_groups(hits.select(slice(0)), (0, 1, 2)) == {}


def test_profiles_are_named_and_carry_their_constants():
    assert {"protodune-sp-2021", "protodune-sp-2019", "protodune-hd", "protodune-vd"} <= set(profile_names())
    old = load_profile("protodune-sp-2019")
    assert (old.adc_min, old.adc_max, old.full_view) == (-50.0, 150.0, False)
    assert (SP.adc_min, SP.adc_max, SP.out_min, SP.out_max, SP.drift_window) == (-10.0, 30.0, -5.0, 15.0, 6)
