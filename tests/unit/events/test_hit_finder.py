"""The hit finder: pulses of known shape come back with their parameters; nothing makes it fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protosonic.detectors import load_detector
from protosonic.events.hit_finder import find_hits, fit_pulses
from protosonic.events.model import Hits

from .builders import W_CHANNEL, make_waveforms, pulse

THRESHOLD = 0.6
DETECTOR = load_detector("protodune-sp")


def found(
    charge: Mapping[int, Mapping[int, Sequence[float]]],
    threshold: float = THRESHOLD,
    bad_channels: Sequence[int] | None = None,
) -> Hits:
    bad = None if bad_channels is None else np.array(bad_channels, np.int32)
    return find_hits(make_waveforms(charge), DETECTOR, threshold, bad)


def found_on_one_wire(rois: Mapping[int, Sequence[float]], threshold: float = THRESHOLD) -> Hits:
    return found({W_CHANNEL: rois}, threshold)


@pytest.mark.parametrize("sigma", [1.3, 2.3, 4.0, 12.5])  # three samples above half of the maximum are needed
@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("amplitude", [0.7, 6.0, 4000.0])
def test_a_gaussian_is_recovered(sigma: float, fraction: float, amplitude: float) -> None:
    centre = 150 + fraction
    hits = found_on_one_wire({0: pulse(centre, sigma, amplitude, n_ticks=300)}, threshold=0.5)
    assert len(hits) == 1
    assert hits.peak_time[0] == pytest.approx(centre, abs=2e-3)
    assert hits.rms[0] == pytest.approx(sigma, rel=2e-3)
    assert hits.peak_amplitude[0] == pytest.approx(amplitude, rel=2e-3)
    assert hits.integral[0] == pytest.approx(amplitude * sigma * np.sqrt(2 * np.pi), rel=4e-3)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 0.75])
def test_a_pulse_too_narrow_for_a_fit_is_estimated(fraction: float) -> None:
    hits = found_on_one_wire({0: pulse(50 + fraction, 0.8, 5)})
    assert len(hits) == 1
    assert hits.peak_time[0] == pytest.approx(50 + fraction, abs=0.5)
    assert hits.rms[0] == pytest.approx(0.8, rel=0.5)
    assert hits.peak_amplitude[0] == pytest.approx(5, rel=0.25)


def test_the_time_counts_from_the_start_of_the_window() -> None:
    samples = pulse(10, n_ticks=21)
    hits = found_on_one_wire({5: samples, 700: samples, 5900: samples})
    np.testing.assert_allclose(hits.peak_time, [15, 710, 5910], atol=1e-3)


def test_noise_moves_the_parameters_little() -> None:
    rng = np.random.default_rng(4)
    hits = found({c: {0: pulse(50, 4, 6) + rng.normal(0, 0.1, 100).astype("f4")} for c in range(2080, 2180)})
    main = hits.select(hits.peak_amplitude > 3)
    assert len(main) >= 100
    assert np.median(np.abs(main.peak_time - 50)) < 0.2
    assert np.median(main.rms) == pytest.approx(4, rel=0.1)
    assert np.median(main.peak_amplitude) == pytest.approx(6, rel=0.05)


@pytest.mark.parametrize("distance", [16, 20, 25])
def test_overlapping_pulses_are_split_at_the_minimum_between_them(distance: int) -> None:
    samples = pulse(40, 4, 6) + pulse(40 + distance, 4, 3)
    hits = found_on_one_wire({0: samples})
    np.testing.assert_allclose(hits.peak_time, [40, 40 + distance], atol=0.5)
    np.testing.assert_allclose(hits.peak_amplitude, [6, 3], rtol=0.1)
    np.testing.assert_allclose(hits.rms, [4, 4], rtol=0.15)
    # What lies beyond the minimum belongs to the other pulse: taking it away changes nothing.
    minimum = 40 + int(np.argmin(samples[40 : 40 + distance]))
    alone = found_on_one_wire({0: samples[:minimum]})
    assert (alone.peak_time[0], alone.rms[0]) == (hits.peak_time[0], hits.rms[0])


def test_three_pulses_in_one_region_and_others_in_the_next() -> None:
    samples = pulse(15, 2) + pulse(30, 2) + pulse(45, 2)
    hits = found({W_CHANNEL: {0: samples, 200: samples}, W_CHANNEL + 1: {0: samples}})
    assert hits.channel.tolist() == [W_CHANNEL] * 6 + [W_CHANNEL + 1] * 3
    np.testing.assert_allclose(hits.peak_time, [15, 30, 45, 215, 230, 245, 15, 30, 45], atol=0.05)


@pytest.mark.parametrize(("height", "n_hits"), [(0.59, 0), (0.6, 0), (0.601, 1), (5, 1)])
def test_a_maximum_must_be_above_the_threshold(height: float, n_hits: int) -> None:
    assert len(found_on_one_wire({10: [0.2, height, 0.3]})) == n_hits


def test_a_dip_below_the_threshold_is_not_needed_to_split() -> None:
    assert len(found_on_one_wire({0: [1, 5, 4, 5, 1]})) == 2


@pytest.mark.parametrize("width", [2, 3, 4, 9])
def test_a_plateau_is_one_hit_in_its_middle(width: int) -> None:
    hits = found_on_one_wire({20: [1.0] + [3.0] * width + [1.0]})
    assert len(hits) == 1
    assert hits.peak_time[0] == pytest.approx(21 + (width - 1) / 2, abs=0.01)


def test_a_region_of_equal_samples_is_one_hit() -> None:
    hits = found_on_one_wire({20: [2.0] * 7})
    assert hits.peak_time.tolist() == [23.0]
    assert hits.peak_amplitude.tolist() == [2.0]


def test_a_shoulder_is_no_hit() -> None:
    assert len(found_on_one_wire({0: [1, 3, 3, 6, 2, 2, 1]})) == 1


@pytest.mark.parametrize("start", [0, 57, 5999])
def test_a_single_sample_is_a_hit_at_its_tick(start: int) -> None:
    hits = found_on_one_wire({start: [4.0]})
    assert hits.peak_time.tolist() == [start]
    assert hits.peak_amplitude.tolist() == [4.0]
    assert 0 < hits.rms[0] < 1


@pytest.mark.parametrize("samples", [[9.0, 5.0, 1.0], [9.0, 8.9, 8.8, 8.0, 1.0], [5.0, 5.0], [5.0, 3.0, 2.9]])
@pytest.mark.parametrize("at_end", [False, True])
def test_a_pulse_cut_by_the_window_lies_in_the_window(samples: list[float], at_end: bool) -> None:
    start = 6000 - len(samples) if at_end else 0
    hits = found_on_one_wire({start: samples[::-1] if at_end else samples})
    assert len(hits) == 1
    assert start <= hits.peak_time[0] <= start + len(samples) - 1


def test_regions_next_to_each_other_do_not_mix() -> None:
    hits = found({W_CHANNEL: {10: [1.0, 4.0], 12: [4.0, 1.0]}, W_CHANNEL + 1: {0: [1.0]}})
    assert len(hits) == 3
    assert hits.peak_time[0] <= 11
    assert hits.peak_time[1] >= 12


def test_bad_channels_have_no_hits() -> None:
    charge = {channel: {0: pulse(50)} for channel in (5, 6, W_CHANNEL)}
    assert found(charge, bad_channels=[6, 99999]).channel.tolist() == [5, W_CHANNEL]
    assert found(charge, bad_channels=[]).channel.tolist() == [5, 6, W_CHANNEL]


def test_hits_come_by_channel_and_time() -> None:
    rng = np.random.default_rng(8)
    charge = {
        int(channel): {0: pulse(20), 200: pulse(float(rng.uniform(10, 90)))}
        for channel in rng.choice(15360, 50, replace=False)
    }
    hits = found(charge)
    assert len(hits) == 100
    order = np.lexsort((hits.peak_time, hits.channel))
    assert order.tolist() == list(range(100))


def test_hits_are_placed_by_channel() -> None:
    hits = found({channel: {0: pulse(50)} for channel in (2560, 2560 + 801, 2560 + 2079, 2560 + 2081)})
    assert hits.tpc.tolist() == [2, 2, 2, 3]
    assert hits.plane.tolist() == [0, 1, 2, 2]
    assert hits.wire.tolist() == [0, 1, 0, 1]
    assert hits.in_wire_space.tolist() == [False, False, True, True]
    assert hits.cryostat.tolist() == [0] * 4
    hits.check(DETECTOR)


@pytest.mark.parametrize("charge", [{}, {5: {}}, {5: {0: []}}, {5: {0: [0.1, 0.2]}, 6: {}}])
def test_nothing_gives_no_hits(charge: dict[int, dict[int, list[float]]]) -> None:
    hits = found(charge)
    assert len(hits) == 0
    assert [column.dtype for column in (hits.channel, hits.tpc, hits.wire, hits.peak_time)] == [
        np.int32,
        np.int16,
        np.int32,
        np.float32,
    ]


SAMPLES = st.lists(
    st.one_of(
        st.floats(-10, 10, width=32), st.floats(0, 2.0**100, width=32), st.sampled_from([0.0, 0.5, 1.0, 2.0])
    ),
    max_size=12,
)


@given(rois=st.lists(SAMPLES, max_size=5), threshold=st.sampled_from([0.0, 0.6, 2.0]))
def test_any_charge_gives_sane_hits(rois: list[list[float]], threshold: float) -> None:
    values = np.array([value for roi in rois for value in roi], np.float32)
    roi = np.repeat(np.arange(len(rois)), [len(samples) for samples in rois])
    start = np.cumsum([3, *(len(samples) + 2 for samples in rois)])
    tick = np.concatenate(
        [np.empty(0, int), *(s + np.arange(len(r)) for s, r in zip(start, rois, strict=False))]
    )
    position, sigma, amplitude, peak = fit_pulses(values, roi, tick, threshold)
    for numbers in (position, sigma, amplitude):
        assert np.isfinite(numbers).all()
    assert (sigma > 0).all()
    assert (amplitude > 0).all()
    assert (values[peak] > threshold).all()
    assert (np.diff(peak) > 0).all()
    first = start[roi[peak]]
    last = first + np.array([len(samples) for samples in rois], int)[roi[peak]] - 1
    assert (position >= first).all()
    assert (position <= last).all()
    # Each region whose largest sample is above the threshold has a hit there.
    peaks_by_roi = [set(tick[peak[roi[peak] == index]]) for index in range(len(rois))]
    for index, samples in enumerate(rois):
        assert bool(peaks_by_roi[index]) == (max(samples, default=0.0) > float(np.float32(threshold)))


def test_the_finder_agrees_with_a_plain_loop_over_runs_of_equal_samples() -> None:
    rng = np.random.default_rng(11)
    for _ in range(50):
        samples = np.round(rng.gamma(0.5, 2, 40), 1).astype(np.float32)
        heights = [0.0, *(float(value) for value, _ in groupby(samples)), 0.0]
        least = float(np.float32(THRESHOLD))
        expected = sum(
            height > least and before < height > after
            for before, height, after in zip(heights, heights[1:], heights[2:], strict=False)
        )
        assert len(found_on_one_wire({0: samples})) == expected
