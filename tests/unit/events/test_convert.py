"""Conversion to native files: usable events arrive as they are read; the others are named."""

from __future__ import annotations

import logging
from pathlib import Path

import h5py
import numpy as np
import pytest

from protosonic.errors import DataError
from protosonic.events.convert import convert_file
from protosonic.events.model import Event
from protosonic.events.reader import ReaderOptions

from .builders import (
    MICROBOONE,
    W_CHANNEL,
    WIRECELL,
    add_frame,
    add_pulse,
    assert_same_event,
    frame_members,
    hit_table,
    make_event,
    make_hits,
    make_waveforms,
    plain_event,
    pulse_members,
    read_good,
    write_native,
    write_numl,
    write_tar,
)


def wirecell_file(folder: Path) -> Path:
    path = folder / "frames.h5"
    with h5py.File(path, "w") as file:
        add_pulse(file, ident="1")
        add_frame(file, [W_CHANNEL], [[np.nan]], ident="2")
        add_pulse(file, ident="3", centre=60)
    return path


def test_an_archive_becomes_a_native_file_of_the_same_events(tmp_path: Path) -> None:
    source = write_tar(tmp_path / "a.tar.gz", pulse_members(ident=1) | pulse_members(ident=2), "gz")
    assert convert_file(source, tmp_path / "out" / "a.h5", ReaderOptions(run=5, **WIRECELL)) == 2
    converted = read_good(tmp_path / "out" / "a.h5")
    for one, other in zip(converted, read_good(source, run=5, **WIRECELL), strict=True):
        assert len(one.hits) == 1
        assert_same_event(one, other)


def test_a_numl_file_becomes_a_native_file_of_the_same_events(tmp_path: Path, with_wires: Path) -> None:
    assert convert_file(with_wires, tmp_path / "a.h5", ReaderOptions(**MICROBOONE)) == 2
    for one, other in zip(read_good(tmp_path / "a.h5"), read_good(with_wires, **MICROBOONE), strict=True):
        assert_same_event(one, other)


def test_bad_events_are_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = wirecell_file(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert convert_file(source, tmp_path / "a.h5", ReaderOptions(**WIRECELL)) == 2
    assert [event.id.event for event in read_good(tmp_path / "a.h5")] == [1, 3]
    (record,) = caplog.records
    reason = f"not-finite: the charge of channel {W_CHANNEL} at tick 0 is not finite"
    assert record.message.startswith(f"run 0 subrun 0 event 2: left out: {reason}")


def test_a_bad_first_event_does_not_matter(tmp_path: Path) -> None:
    source = write_tar(tmp_path / "a.tar", pulse_members(ident=1, tag="wiener") | pulse_members(ident=2))
    assert convert_file(source, tmp_path / "a.h5", ReaderOptions(**WIRECELL)) == 1
    assert [event.id.event for event in read_good(tmp_path / "a.h5")] == [2]


def test_truth_is_kept(tmp_path: Path) -> None:
    event = make_event(
        waveforms=make_waveforms({}), hits=make_hits([(1, 2, 0, 5.0), (1, 2, 1, 6.0)]), labels=[3, 0]
    )
    source = write_native(tmp_path / "a.h5", event, with_truth=True)
    assert convert_file(source, tmp_path / "b.h5", ReaderOptions()) == 1
    assert_same_event(*read_good(tmp_path / "b.h5"), event)


def test_a_file_without_usable_events_gives_no_file(tmp_path: Path) -> None:
    source = write_numl(tmp_path / "a.h5", hit_table())
    with pytest.raises(DataError) as caught:
        convert_file(source, tmp_path / "b.h5", ReaderOptions(**MICROBOONE))
    assert caught.value.code == "no-events"
    assert not (tmp_path / "b.h5").exists()


def test_a_file_that_cannot_be_read_leaves_the_old_target(tmp_path: Path) -> None:
    old = write_native(tmp_path / "b.h5", plain_event())
    source = write_tar(tmp_path / "a.tar", pulse_members())
    source.write_bytes(source.read_bytes()[:1500])
    with pytest.raises(DataError):
        convert_file(source, old, ReaderOptions(**WIRECELL))
    assert_same_event(*read_good(old), plain_event())


def test_events_of_two_channel_numberings_do_not_go_into_one_file(tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    for ident, first in ((1, 1904), (2, 1908)):
        members |= frame_members(first + np.arange(584), np.ones((584, 1)), ident=ident)
    source = write_tar(tmp_path / "a.tar", members)
    options = ReaderOptions(detector="protodune-vd", charge_scale=1.0)
    with pytest.raises(DataError) as caught:
        convert_file(source, tmp_path / "a.h5", options)
    assert caught.value.code == "wrong-detector"
    assert not (tmp_path / "a.h5").exists()


def test_a_file_may_be_converted_onto_itself(tmp_path: Path) -> None:
    path = write_native(tmp_path / "a.h5", plain_event())
    assert convert_file(path, path, ReaderOptions(charge_scale=2.0)) == 1
    (event,) = read_good(path)
    assert isinstance(event, Event)
    assert event.waveforms is not None
    assert event.waveforms.values.tolist() == [2.0, 10.0, 4.0]
