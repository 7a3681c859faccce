"""Wire-Cell archives: what FrameFileSink and its users write is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protosonic.errors import ConfigError
from protosonic.events.formats import open_events
from protosonic.events.model import Event, EventId
from protosonic.events.reader import ReaderOptions

from .builders import (
    N_TICKS,
    W_CHANNEL,
    WIRECELL,
    assert_same_event,
    frame_members,
    npy,
    pulse,
    pulse_members,
    read_bad,
    read_file,
    read_good,
    read_one,
    refusal,
    write_tar,
)


def dense(event: Event) -> dict[int, list[float]]:
    """Channel → all samples."""
    waveforms = event.waveforms
    assert waveforms is not None
    table = np.zeros((len(waveforms), event.n_ticks), np.float32)
    table[waveforms.sample_waveform, waveforms.sample_tick] = waveforms.values
    return {int(channel): row.tolist() for channel, row in zip(waveforms.channel, table, strict=True)}


def test_a_pulse_becomes_a_waveform_and_a_hit(tmp_path: Path) -> None:
    event = read_one(write_tar(tmp_path / "a.tar", pulse_members(ident=40896)), run=27409, **WIRECELL)
    assert event.id == EventId(27409, 0, 40896)
    assert (event.entry, event.n_ticks, event.detector.name) == (0, N_TICKS, "protodune-sp")
    assert event.truth is None
    np.testing.assert_allclose(dense(event)[W_CHANNEL], pulse(30), rtol=1e-6)
    assert dense(event)[W_CHANNEL + 1] == [0.0] * N_TICKS
    hits = event.hits
    assert (hits.channel.tolist(), hits.tpc.tolist(), hits.plane.tolist(), hits.wire.tolist()) == (
        [W_CHANNEL],
        [1],
        [2],
        [0],
    )
    assert hits.in_wire_space.tolist() == [True]
    assert hits.peak_time[0] == pytest.approx(30, abs=1e-3)
    assert hits.rms[0] == pytest.approx(4, rel=1e-3)
    assert hits.peak_amplitude[0] == pytest.approx(5, rel=1e-3)


def test_induction_hits_stay_in_channel_space(tmp_path: Path) -> None:
    event = read_one(write_tar(tmp_path / "a.tar", pulse_members(2560 + 805)), **WIRECELL)
    hits = event.hits
    assert (hits.tpc.tolist(), hits.plane.tolist(), hits.wire.tolist()) == ([2], [1], [5])
    assert hits.in_wire_space.tolist() == [False]


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
@pytest.mark.parametrize("fortran", [True, False])
@pytest.mark.parametrize("dtype", ["<f4", "<i2", ">f4", "<f8"])
def test_storage_does_not_matter(tmp_path: Path, compression: str, fortran: bool, dtype: str) -> None:
    frame = np.round(np.stack([pulse(30, amplitude=5000), pulse(60, amplitude=3000)])).astype(dtype)
    expected = read_one(
        write_tar(tmp_path / "plain.tar", frame_members([7, 8], frame.astype("<f4"))), **WIRECELL
    )
    members = frame_members([7, 8], frame, fortran=fortran)
    read = read_one(write_tar(tmp_path / "stored", members, compression), **WIRECELL)
    assert len(read.hits) == 2
    assert_same_event(read, expected)


@pytest.mark.parametrize(("fortran", "height"), [(True, 300), (False, 3)])
def test_frames_larger_than_a_block_are_put_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fortran: bool, height: int
) -> None:
    frame = np.random.default_rng(2).integers(0, 3, (height, N_TICKS)).astype(np.float32)
    path = write_tar(tmp_path / "a.tar", frame_members(np.arange(height), frame, fortran=fortran))
    monkeypatch.setattr("protosonic.events.wirecell_archive.BLOCK_BYTES", 1000)
    event = read_one(path, detector="protodune-sp", charge_scale=1.0)
    np.testing.assert_array_equal(list(dense(event).values()), frame)


def test_rows_may_be_missing_out_of_order_and_far_apart(tmp_path: Path) -> None:
    channels = [9000, 5, 2090, 6]
    frame = np.diag([1.0, 2.0, 3.0, 4.0]).astype(np.float32)
    event = read_one(
        write_tar(tmp_path / "a.tar", frame_members(channels, frame)), detector="protodune-sp", charge_scale=1
    )
    assert dense(event) == {5: [0, 2, 0, 0], 6: [0, 0, 0, 4], 2090: [0, 0, 3, 0], 9000: [1, 0, 0, 0]}


def test_tbin_moves_the_frame(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", frame_members([5], [[1.0, 0.0, 2.0]], tbin=10))
    event = read_one(path, detector="protodune-sp", charge_scale=1)
    assert event.n_ticks == 13
    assert dense(event)[5] == [0.0] * 10 + [1.0, 0.0, 2.0]


def test_a_bin_may_be_several_ticks(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", frame_members([5], [[1.0, 0.0, 2.0]], tbin=1))
    event = read_one(path, detector="protodune-sp", charge_scale=1, ticks_per_bin=4)
    assert event.n_ticks == 16
    assert dense(event)[5] == [0.0] * 4 + [1.0] * 4 + [0.0] * 4 + [2.0] * 4


def test_anodes_of_one_event_are_merged_whatever_their_order(tmp_path: Path) -> None:
    members = (
        frame_members([7680, 7681], [[3.0, 0.0], [0.0, 4.0]], tag="gauss3")
        | frame_members([5], [[1.0, 2.0, 9.0]], tag="gauss0")
        | frame_members([2560], [[7.0]], tag="gauss1", tbin=2)
    )
    event = read_one(write_tar(tmp_path / "a.tar", members), detector="protodune-sp", charge_scale=1)
    assert dense(event) == {5: [1, 2, 9], 2560: [0, 0, 7], 7680: [3, 0, 0], 7681: [0, 4, 0]}


def test_a_channel_in_two_frames_of_an_event_is_refused(tmp_path: Path) -> None:
    members = pulse_members(tag="gauss0") | pulse_members(tag="gauss1")
    error = read_bad(write_tar(tmp_path / "a.tar", members), **WIRECELL)
    assert (error.code, f"channel {W_CHANNEL} is given twice" in str(error)) == ("corrupt", True)


def test_events_come_in_the_order_of_their_idents(tmp_path: Path) -> None:
    members = pulse_members(ident=10, centre=60) | pulse_members(ident=2, centre=30)
    path = write_tar(tmp_path / "a.tar", members)
    events = read_good(path, **WIRECELL)
    assert [(event.entry, event.id.event) for event in events] == [(0, 2), (1, 10)]
    assert [round(float(event.hits.peak_time[0])) for event in events] == [30, 60]
    with open_events(path, ReaderOptions(**WIRECELL)) as file:
        assert [event.id.event for event in file.read([1])] == [10]


@pytest.mark.parametrize(
    ("present", "wanted", "chosen"),
    [
        (["gauss", "wiener"], "gauss", ["gauss"]),
        (["gauss1", "wiener1"], "gauss", ["gauss1"]),
        (["gauss0", "gauss1"], "gauss", ["gauss0", "gauss1"]),
        (["gauss1", "gauss10"], "gauss1", ["gauss1"]),
        (["gauss1", "gauss10"], "gauss10", ["gauss10"]),
        (["gauss", "gauss_old"], "gauss", ["gauss"]),
        (["rebinned_reco"], "rebinned", ["rebinned_reco"]),
        (["a_b_c2", "a_b"], "a_b_c", ["a_b_c2"]),
        (["total_numelectrons", "rebinned_reco"], "total", ["total_numelectrons"]),
    ],
)
def test_tags_are_chosen_by_name_or_beginning(
    tmp_path: Path, present: list[str], wanted: str, chosen: list[str]
) -> None:
    members: dict[str, bytes] = {}
    for index, tag in enumerate(present):
        members |= frame_members([index], [[1.0]], tag=tag)
    path = write_tar(tmp_path / "a.tar", members)
    event = read_one(path, detector="protodune-sp", charge_scale=1, tag=wanted)
    assert list(dense(event)) == [present.index(tag) for tag in chosen]


@pytest.mark.parametrize("wanted", ["raw", "gauss_", "auss"])
def test_an_unknown_tag_lists_the_tags_of_the_file(tmp_path: Path, wanted: str) -> None:
    path = write_tar(tmp_path / "a.tar", pulse_members(tag="gauss1") | pulse_members(tag="wiener1"))
    error = read_bad(path, tag=wanted, **WIRECELL)
    assert error.code == "no-frame"
    assert "gauss1, wiener1" in str(error)


def test_a_beginning_that_fits_several_kinds_of_frame_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", pulse_members(tag="trackid_1st") | pulse_members(tag="trackid_2nd"))
    assert read_bad(path, tag="trackid", **WIRECELL).code == "no-frame"
    assert len(read_one(path, tag="trackid_1st", **WIRECELL).hits) == 1


def test_masks_name_bad_channels_also_of_other_apas(tmp_path: Path) -> None:
    masks = {
        "chanmask_bad_1.npy": npy(np.array([[W_CHANNEL, 0, N_TICKS], [9999, 0, N_TICKS]], np.int32)),
        "chanmask_noisy_1.npy": npy(np.array([[3, 0, 5]], np.int32)),
        "chanmask_none_1.npy": npy(np.empty((0, 3), np.int32)),
        "chanmask_bare_1.npy": npy(np.empty((2, 0), np.int32)),
    }
    event = read_one(write_tar(tmp_path / "a.tar", pulse_members() | masks), **WIRECELL)
    assert event.bad_channels.tolist() == [3, W_CHANNEL, 9999]
    assert len(event.hits) == 0
    assert event.waveforms is not None
    assert len(event.waveforms.values) > 0


def test_other_members_and_folders_are_passed_over(tmp_path: Path) -> None:
    others = {"README": b"hello", "summary_gauss_1.npy": npy(np.zeros(3)), "frame_gauss.npy": b"not one"}
    path = write_tar(tmp_path / "a.tar", others | pulse_members())
    assert len(read_one(path, **WIRECELL).hits) == 1


def test_an_event_without_the_wanted_frame_is_bad_and_the_others_are_read(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", pulse_members(ident=1, tag="wiener") | pulse_members(ident=2))
    bad, good = read_file(path, **WIRECELL)
    assert not isinstance(bad, Event)
    assert (bad.id.event, bad.error.code) == (1, "no-frame")
    assert isinstance(good, Event)


@pytest.mark.parametrize("without", ["detector", "charge_scale"])
def test_what_the_format_does_not_store_must_be_configured(tmp_path: Path, without: str) -> None:
    path = write_tar(tmp_path / "a.tar", pulse_members())
    options: dict[str, Any] = {name: value for name, value in WIRECELL.items() if name != without}
    with pytest.raises(ConfigError, match=rf"inputs\[\]\.{without} \(--[a-z-]+\) is needed"):
        read_file(path, **options)


def test_the_scale_and_the_threshold_decide_what_is_a_hit(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", pulse_members())
    for scale, threshold, n_hits in [(1e-3, 0.6, 1), (1e-4, 0.6, 0), (1e-4, 0.4, 1), (1e-3, 6, 0)]:
        event = read_one(path, detector="protodune-sp", charge_scale=scale, hit_threshold=threshold)
        assert len(event.hits) == n_hits


def test_the_summary_has_hits_samples_and_the_median_amplitude(tmp_path: Path) -> None:
    frame = np.stack([pulse(30, amplitude=a) for a in (5000, 7000, 9000, 3000)])
    members = frame_members([W_CHANNEL, W_CHANNEL + 1, W_CHANNEL + 2, 5], frame)
    path = write_tar(tmp_path / "a.tar", members | pulse_members(ident=2, tag="wiener"))
    with open_events(path, ReaderOptions(**WIRECELL)) as file:
        good, bad = file.summaries()
    assert good.hits_by_plane == (1, 0, 3)
    assert good.n_samples == np.count_nonzero(frame)
    assert good.median_amplitude == pytest.approx(7, rel=1e-3)
    assert bad.error is not None
    assert bad.error.code == "no-frame"


def test_an_archive_without_frames_is_refused(tmp_path: Path) -> None:
    error = refusal(write_tar(tmp_path / "a.tar", {"README": b"hello"}), **WIRECELL)
    assert error.code == "unsupported-format"
    assert "frame_<tag>_<ident>.npy" in str(error)


@pytest.mark.parametrize(
    "channels",
    [
        None,
        npy(np.array([[W_CHANNEL, W_CHANNEL + 1]], np.int32)),
        npy(np.array([W_CHANNEL], np.int32)),
        npy(np.array([W_CHANNEL, np.nan])),
        npy(np.array([W_CHANNEL, 2**32], np.int64)),
    ],
    ids=["missing", "two-dimensional", "too short", "NaN", "too large for its type"],
)
def test_a_frame_without_a_proper_list_of_channels_is_bad(tmp_path: Path, channels: bytes | None) -> None:
    members = pulse_members()
    del members["channels_gauss_1.npy"]
    if channels is not None:
        members["channels_gauss_1.npy"] = channels
    assert read_bad(write_tar(tmp_path / "a.tar", members), **WIRECELL).code == "corrupt"


def test_a_frame_without_tickinfo_starts_at_tick_0(tmp_path: Path) -> None:
    members = pulse_members()
    del members["tickinfo_gauss_1.npy"]
    assert read_one(write_tar(tmp_path / "a.tar", members), **WIRECELL).n_ticks == N_TICKS


@pytest.mark.parametrize("tbin", [-1, np.nan, np.inf, 1e9])
def test_an_impossible_first_tick_is_bad(tmp_path: Path, tbin: float) -> None:
    path = write_tar(tmp_path / "a.tar", pulse_members(tbin=tbin))
    assert read_bad(path, **WIRECELL).code == "hostile"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_charge_that_is_not_finite_costs_only_its_event(tmp_path: Path, value: float, dtype: str) -> None:
    broken = np.zeros((2, 10), dtype)
    broken[1, 4] = value
    members = frame_members([5, 6], broken, ident=1) | pulse_members(ident=2)
    bad, good = read_file(write_tar(tmp_path / "a.tar", members), **WIRECELL)
    assert not isinstance(bad, Event)
    assert bad.error.code == "not-finite"
    assert "channel 6 at tick 4" in str(bad.error)
    assert isinstance(good, Event)


@pytest.mark.parametrize(("value", "dtype"), [(1e300, "<f8"), (3e38, "<f4")])
def test_charge_too_large_for_single_precision_is_bad(tmp_path: Path, value: float, dtype: str) -> None:
    """As itself, or as the integral of the hit that is found in it."""
    frame = np.full((1, 60), value, dtype)
    path = write_tar(tmp_path / "a.tar", frame_members([W_CHANNEL], frame))
    assert read_bad(path, detector="protodune-sp", charge_scale=1.0).code == "not-finite"


def test_a_frame_of_another_detector_is_bad(tmp_path: Path) -> None:
    error = read_bad(write_tar(tmp_path / "a.tar", pulse_members(20000)), **WIRECELL)
    assert error.code == "wrong-detector"
    assert "inputs[].detector" in str(error)


def test_a_frame_without_ticks_is_bad(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", frame_members([1, 2], np.empty((2, 0), np.float32)))
    assert refusal(path, **WIRECELL).code == "corrupt"


def test_a_frame_without_channels_is_an_event_without_hits(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", frame_members([], np.empty((0, 50), np.float32)))
    event = read_one(path, **WIRECELL)
    assert (event.n_ticks, len(event.hits)) == (50, 0)


def test_the_numbering_of_the_vertical_drift_is_found_from_the_channels(tmp_path: Path) -> None:
    for name, first in (("protodune-vd", 1904), ("protodune-vd-v1", 1908)):
        members = frame_members(first + np.arange(584), np.ones((584, 1)))
        event = read_one(write_tar(tmp_path / name, members), detector="protodune-vd", charge_scale=1)
        assert event.detector.name == name


def test_headers_as_python_2_wrote_them_are_read_without_a_word(tmp_path: Path) -> None:
    members = pulse_members()
    name = next(name for name in members if name.startswith("frame"))
    header_end = members[name].index(b"\n")
    header, comma, rest = members[name][:header_end].partition(b"'shape': (")
    rows, _, others = rest.partition(b",")
    old = header + comma + rows + b"L," + others[:-1]
    assert len(old) == header_end
    assert b"L," in old
    expected = read_one(write_tar(tmp_path / "new", members), **WIRECELL)
    members[name] = old + members[name][header_end:]
    assert_same_event(read_one(write_tar(tmp_path / "old", members), **WIRECELL), expected)
