"""The event model: sparse waveforms, the builder that makes them, and the checks of hits and waveforms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from protosonic.detectors import load_detector
from protosonic.errors import DataError
from protosonic.events.model import EventId, Hits, Waveforms
from protosonic.events.waveform_builder import WaveformBuilder

from .builders import N_TICKS, W_CHANNEL, make_event, make_hits, make_waveforms

DETECTOR = load_detector("protodune-sp")


def dense(waveforms: Waveforms, n_ticks: int) -> np.ndarray:
    table = np.zeros((len(waveforms), n_ticks), np.float32)
    table[waveforms.sample_waveform, waveforms.sample_tick] = waveforms.values
    return table


def test_samples_know_their_waveform_and_tick() -> None:
    waveforms = make_waveforms({7: {2: [1, 2], 9: [3]}, 8: {}, 9: {0: [4, 5]}})
    assert waveforms.sample_waveform.tolist() == [0, 0, 0, 2, 2]
    assert waveforms.sample_tick.tolist() == [2, 3, 9, 0, 1]


FRAMES = arrays(
    np.float32,
    st.tuples(st.integers(0, 5), st.integers(1, 9)),
    elements=st.sampled_from([0.0, 1.0, 2.5, -3.0]),
)


@given(frame=FRAMES, seed=st.integers(0, 100), ticks_per_bin=st.integers(1, 3), first=st.integers(0, 4))
def test_built_waveforms_are_the_dense_frame(
    frame: np.ndarray, seed: int, ticks_per_bin: int, first: int
) -> None:
    rng = np.random.default_rng(seed)
    channels = rng.permutation(20)[: len(frame)].astype(np.int32)
    builder = WaveformBuilder()
    first_row = builder.add_rows(channels)
    half = len(frame) // 2
    builder.add_block(frame[half:], first_row + half, first)
    builder.add_block(frame[:half], first_row, first)
    n_ticks = (first + frame.shape[1]) * ticks_per_bin
    waveforms = builder.build(n_ticks, charge_scale=2.0, ticks_per_bin=ticks_per_bin)
    expected = np.repeat(np.pad(frame * 2, ((0, 0), (first, 0))), ticks_per_bin, axis=1)
    assert waveforms.channel.tolist() == sorted(channels.tolist())
    assert set(waveforms.n_samples.tolist()) <= {n_ticks}
    np.testing.assert_array_equal(dense(waveforms, n_ticks), expected[np.argsort(channels)])
    # Regions are as long as can be and hold nothing that is zero.
    assert (waveforms.values != 0).all()
    runs = np.count_nonzero(np.diff(np.pad(expected != 0, ((0, 0), (1, 0))).astype(int), axis=1) == 1)
    assert len(waveforms.roi_start) == runs


def test_a_builder_without_rows_gives_no_waveforms() -> None:
    waveforms = WaveformBuilder().build(100)
    assert (len(waveforms), waveforms.roi_offset.tolist(), waveforms.value_offset.tolist()) == (0, [0], [0])


def test_rows_of_several_frames_are_sorted_by_channel() -> None:
    builder = WaveformBuilder()
    one = builder.add_rows(np.array([9, 3], np.int32))
    other = builder.add_rows(np.array([5], np.int32))
    builder.add_samples(np.array([1.0]), np.array([other]), np.array([4]))
    builder.add_samples(np.array([2.0, 3.0]), np.array([one, one + 1]), np.array([0, 0]))
    waveforms = builder.build(10)
    assert waveforms.channel.tolist() == [3, 5, 9]
    assert waveforms.values.tolist() == [3.0, 1.0, 2.0]
    assert waveforms.sample_waveform.tolist() == [0, 1, 2]


def test_a_channel_that_is_announced_twice_is_refused() -> None:
    builder = WaveformBuilder()
    builder.add_rows(np.array([9, 3], np.int32))
    builder.add_rows(np.array([3], np.int32))
    with pytest.raises(DataError, match="channel 3 is given twice"):
        builder.build(10)


def test_a_number_that_is_not_finite_survives_to_be_found() -> None:
    builder = WaveformBuilder()
    row = builder.add_rows(np.array([3], np.int32))
    builder.add_block(np.array([[0, np.nan, 0]], np.float32), row, 0)
    with pytest.raises(DataError, match="channel 3 at tick 1 is not finite"):
        builder.build(3).check(DETECTOR)


def test_good_hits_and_waveforms_pass_their_checks() -> None:
    event = make_event(
        waveforms=make_waveforms({0: {0: [1.0]}, 15359: {N_TICKS - 1: [2.0]}}),
        hits=make_hits([(0, 0, 0, -1e6), (11, 2, 479, 1e6), (5, 1, 1147, 0.0)]),
    )
    event.check()
    make_hits([(0, 0, 799, 1.0), (10, 1, 799, 1.0)], wire_space=False).check(DETECTOR)
    Hits.empty().check(DETECTOR)
    make_event().check()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"wire": 480}, "wrong-detector"),
        ({"wire": -1}, "wrong-detector"),
        ({"tpc": 12}, "wrong-detector"),
        ({"plane": 3}, "wrong-detector"),
        ({"plane": -1}, "wrong-detector"),
        ({"in_wire_space": False}, "wrong-detector"),  # TPC 1 is not the lowest of its unit
        ({"in_wire_space": False, "tpc": 0, "wire": 960}, "wrong-detector"),
        ({"in_wire_space": False, "plane": -1, "tpc": 0}, "wrong-detector"),
        ({"peak_time": np.nan}, "not-finite"),
        ({"rms": np.inf}, "not-finite"),
        ({"peak_amplitude": -np.inf}, "not-finite"),
        ({"integral": np.nan}, "not-finite"),
    ],
)
def test_a_hit_that_has_no_place_is_named(changes: dict[str, Any], code: str) -> None:
    good = make_hits([(2, 0, 5, 1.0), (1, 2, 0, 3.0)])
    columns = {name: getattr(good, name).copy() for name in changes}
    for name, value in changes.items():
        columns[name][1] = value
    with pytest.raises(DataError, match="hit 1 ") as caught:
        replace(good, **columns).check(DETECTOR)
    assert caught.value.code == code


def test_hits_of_an_unpublished_plane_are_only_allowed_in_channel_space() -> None:
    detector = load_detector("protodune-vd")
    hits = make_hits([(0, 0, 475, 1.0)], "protodune-vd", wire_space=False)
    hits.check(detector)
    with pytest.raises(DataError, match="outside the detector"):
        replace(hits, in_wire_space=np.array([True])).check(detector)


@pytest.mark.parametrize("channel", [-1, 15360])
def test_a_waveform_of_a_channel_that_does_not_exist_is_refused(channel: int) -> None:
    with pytest.raises(DataError, match="0 to 15359 of protodune-sp") as caught:
        make_waveforms({5: {}, channel: {}}).check(DETECTOR)
    assert caught.value.code == "wrong-detector"


def test_an_event_with_hits_needs_waveforms() -> None:
    with pytest.raises(DataError) as caught:
        make_event(hits=make_hits([(1, 2, 0, 3.0)])).check()
    assert caught.value.code == "no-waveforms"


def test_hits_are_selected_and_counted() -> None:
    hits = make_hits([(1, 2, 0, 3.0), (1, 0, 1, 4.0), (1, 2, 2, 5.0)])
    assert hits.count_by_plane() == [1, 0, 2]
    assert hits.select(hits.plane == 2).peak_time.tolist() == [3.0, 5.0]
    assert hits.select(np.array([2, 0])).channel.tolist() == [W_CHANNEL + 2, W_CHANNEL]
    assert len(hits.select(slice(1, None))) == 2


def test_event_numbers_sort_by_run_subrun_and_event() -> None:
    ids = [EventId(2, 0, 0), EventId(1, 2, 0), EventId(1, 1, 9), EventId(1, 1, 10)]
    assert sorted(ids) == [ids[2], ids[3], ids[1], ids[0]]
    assert str(ids[3]) == "run 1 subrun 1 event 10"
