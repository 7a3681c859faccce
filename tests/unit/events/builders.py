"""Builders of small events and of input files of every format."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from protosonic.detectors import load_detector
from protosonic.errors import DataError
from protosonic.events.formats import open_events
from protosonic.events.model import Event, EventId, Hits, Waveforms
from protosonic.events.native_writer import NativeWriter
from protosonic.events.reader import BadEvent, ReaderOptions
from protosonic.events.truth import HitTruth

N_TICKS = 100
W_CHANNEL = 2080
"""Channel of wire 0 of plane W of TPC 1 in the horizontal-drift detectors."""
WIRECELL = {"detector": "protodune-sp", "charge_scale": 1e-3}
"""Options that a Wire-Cell file needs."""

# ---- events


def pulse(centre: float, sigma: float = 4.0, amplitude: float = 5.0, n_ticks: int = N_TICKS) -> np.ndarray:
    """Samples of a Gaussian, zero where it is below 1e-4 of its height."""
    shape = np.exp(-0.5 * ((np.arange(n_ticks) - centre) / sigma) ** 2)
    return np.where(shape > 1e-4, amplitude * shape, 0).astype(np.float32)


def make_waveforms(
    charge: Mapping[int, Mapping[int, Sequence[float]]], n_samples: int = N_TICKS
) -> Waveforms:
    """Channel → first tick of each region → its samples."""
    regions = [
        (start, values) for _, rois in sorted(charge.items()) for start, values in sorted(rois.items())
    ]
    return Waveforms(
        channel=np.array(sorted(charge), np.int32),
        n_samples=np.full(len(charge), n_samples, np.int32),
        roi_offset=np.cumsum([0, *(len(rois) for _, rois in sorted(charge.items()))]).astype(np.int64),
        roi_start=np.array([start for start, _ in regions], np.int32),
        value_offset=np.cumsum([0, *(len(values) for _, values in regions)]).astype(np.int64),
        values=np.concatenate([np.empty(0), *(values for _, values in regions)]).astype(np.float32),
    )


def make_hits(
    places: Iterable[tuple[int, int, int, float]], detector: str = "protodune-sp", *, wire_space: bool = True
) -> Hits:
    """(TPC, plane, wire, time) of each hit; the other columns are made up but different."""
    rows = list(places)
    description = load_detector(detector)

    def channel(tpc: int, plane: int, wire: int) -> int:
        if wire_space:
            return int(description.tables[tpc, plane][wire])
        return description.units[description.unit_of_tpc(tpc)].channels[plane][0] + wire

    n = len(rows)
    return Hits(
        channel=np.array([channel(tpc, plane, wire) for tpc, plane, wire, _ in rows], np.int32),
        cryostat=np.zeros(n, np.int16),
        tpc=np.array([row[0] for row in rows], np.int16),
        plane=np.array([row[1] for row in rows], np.int8),
        wire=np.array([row[2] for row in rows], np.int32),
        peak_time=np.array([row[3] for row in rows], np.float32),
        rms=np.arange(1, n + 1, dtype=np.float32),
        peak_amplitude=np.arange(n, dtype=np.float32) + 0.5,
        integral=np.arange(n, dtype=np.float32) * 10,
        in_wire_space=np.full(n, wire_space),
    )


def make_event(
    number: int = 1,
    *,
    detector: str = "protodune-sp",
    entry: int = 0,
    waveforms: Waveforms | None = None,
    hits: Hits | None = None,
    bad_channels: Sequence[int] = (),
    labels: Sequence[int] | None = None,
    n_ticks: int = N_TICKS,
) -> Event:
    """An event of run 7, subrun 3."""
    return Event(
        id=EventId(7, 3, number),
        entry=entry,
        detector=load_detector(detector),
        n_ticks=n_ticks,
        waveforms=waveforms,
        hits=Hits.empty() if hits is None else hits,
        bad_channels=np.array(bad_channels, np.int32),
        truth=None if labels is None else HitTruth.of_labels(np.array(labels, np.int8)),
    )


def plain_event(number: int = 1, entry: int = 0) -> Event:
    """An event with a waveform and a hit."""
    return make_event(
        number,
        entry=entry,
        waveforms=make_waveforms({W_CHANNEL: {number: [1.0, 5.0, 2.0]}, W_CHANNEL + 1: {}}),
        hits=make_hits([(1, 2, 0, number + 1.0)]),
    )


def assert_same_event(one: Event, other: Event) -> None:
    """Every column, its type and everything else that an event has."""
    assert (one.id, one.entry, one.n_ticks, one.detector.name) == (
        other.id,
        other.entry,
        other.n_ticks,
        other.detector.name,
    )
    np.testing.assert_array_equal(one.bad_channels, other.bad_channels)
    for part in ("waveforms", "hits", "truth"):
        mine, its = getattr(one, part), getattr(other, part)
        assert (mine is None) == (its is None)
        for column in fields(mine) if mine is not None else ():
            np.testing.assert_array_equal(
                getattr(mine, column.name),
                getattr(its, column.name),
                err_msg=f"{part}.{column.name}",
                strict=True,
            )


# ---- reading


def read_file(path: Path, file_format: str = "auto", **options: Any) -> list[Event | BadEvent]:
    """Everything that a file gives."""
    with open_events(path, ReaderOptions(**options), file_format) as file:
        return list(file.read())


def read_good(path: Path, **options: Any) -> list[Event]:
    """The events of a file, none of which may be bad."""
    events = read_file(path, **options)
    assert [event.error for event in events if isinstance(event, BadEvent)] == []
    return [event for event in events if isinstance(event, Event)]


def read_one(path: Path, **options: Any) -> Event:
    """The only event of a file."""
    (event,) = read_good(path, **options)
    return event


def read_bad(path: Path, **options: Any) -> DataError:
    """Why the only event of a file is bad."""
    (event,) = read_file(path, **options)
    assert isinstance(event, BadEvent)
    return event.error


def refusal(path: Path, file_format: str = "auto", **options: Any) -> DataError:
    """Why a file is refused as a whole."""
    with pytest.raises(DataError) as caught:
        read_file(path, file_format, **options)
    return caught.value


# ---- files


class TouchWhenUnpickled:
    """Makes a file when somebody loads its pickle."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def write_native(path: Path, *events: Event, with_truth: bool = False) -> Path:
    with NativeWriter(path, events[0].detector, with_truth=with_truth) as writer:
        for event in events:
            writer.write(event)
    return path


def npy(array: Any, *, fortran: bool = False, allow_pickle: bool = False) -> bytes:
    """A NumPy file."""
    buffer = io.BytesIO()
    laid_out = np.asfortranarray(array) if fortran else np.ascontiguousarray(array)
    np.save(buffer, laid_out, allow_pickle=allow_pickle)
    return buffer.getvalue()


def npy_header(header: str) -> bytes:
    """The start of a NumPy file with any header."""
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def frame_members(
    channels: Any, frame: Any, *, tag: str = "gauss", ident: int = 1, tbin: float = 0, fortran: bool = True
) -> dict[str, bytes]:
    """Members of one frame, as FrameFileSink writes them."""
    return {
        f"frame_{tag}_{ident}.npy": npy(frame, fortran=fortran),
        f"channels_{tag}_{ident}.npy": npy(np.asarray(channels, np.int32)),
        f"tickinfo_{tag}_{ident}.npy": npy(np.array([0.0, 500.0, tbin])),
    }


def pulse_members(channel: int = W_CHANNEL, centre: float = 30, **options: Any) -> dict[str, bytes]:
    """A frame in electrons with one pulse on the first of two channels."""
    frame = np.stack([pulse(centre, amplitude=5000), np.zeros(N_TICKS, np.float32)])
    return frame_members([channel, channel + 1], frame, **options)


def write_tar(
    path: Path, members: Mapping[str, bytes] | Sequence[tuple[str, bytes]], compression: str = ""
) -> Path:
    """An archive in the ustar format, like those of Wire-Cell; a sequence may name a member twice."""
    pairs = members.items() if isinstance(members, Mapping) else members
    with tarfile.open(path, f"w:{compression}", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in pairs:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def add_frame(
    file: h5py.File,
    channels: Any,
    frame: Any,
    *,
    ident: str = "1",
    tag: str = "gauss",
    tbin: float = 0,
    **storage: Any,
) -> h5py.Group:
    """One frame, as HDF5FrameTap writes it."""
    group = file.require_group(ident)
    group.create_dataset(f"frame_{tag}", data=frame, **storage)
    group[f"channels_{tag}"] = np.asarray(channels, np.int32)
    group[f"tickinfo_{tag}"] = np.array([0.0, 500.0, tbin])
    return group


def add_pulse(file: h5py.File, channel: int = W_CHANNEL, centre: float = 30, **options: Any) -> h5py.Group:
    """A frame in electrons with one pulse on the first of two channels."""
    frame = np.stack([pulse(centre, amplitude=5000), np.zeros(N_TICKS, np.float32)])
    return add_frame(file, [channel, channel + 1], frame, **options)


FIRST, SECOND = (7010, 1705, 85251), (7010, 1705, 85252)
"""Run, subrun and event of the two events of the tables below."""
MICROBOONE = {"detector": "microboone"}


def hit_table(ids: Any = (FIRST, FIRST, SECOND), **columns: Any) -> dict[str, Any]:
    """Two hits of one event and one of another."""
    return {
        "event_id": list(ids),
        "hit_id": [0, 1, 0],
        "tpc": [0, 0, 0],
        "local_plane": [2, 0, 1],
        "local_wire": [1525, 10, 2399],
        "local_time": [341.5, 20.25, 60.0],
        "rms": [4.0, 2.0, 1.0],
        "integral": [71.5, 30.0, 10.0],
    } | columns


def wire_table(**columns: Any) -> dict[str, Any]:
    """Two wires of one event and one of another."""
    return {
        "event_id": [FIRST, FIRST, SECOND],
        "tpc": [0, 0, 0],
        "local_plane": [2, 0, 1],
        "local_wire": [1525, 10, 2399],
        "adc": np.stack([pulse(30), pulse(20, amplitude=2), pulse(60, amplitude=9)]),
    } | columns


def without(table: dict[str, Any], column: str) -> dict[str, Any]:
    return {name: values for name, values in table.items() if name != column}


NUMBERS = {"local_plane": "plane", "local_wire": "wire", "local_time": "time"}


def write_numl(
    path: Path,
    hits: Mapping[str, Any],
    wires: Mapping[str, Any] | None = None,
    events: Sequence[tuple[int, int, int]] | None = None,
    *,
    hdf5maker: bool = False,
    seq_cnt: bool = False,
) -> Path:
    """Tables of one dataset per column, shape (N, 1) but for event_id; columns have the names of the pynuml dialect."""
    with h5py.File(path, "w") as file:
        tables = {"hit_table": hits} | ({} if wires is None else {"wire_table": wires})
        tables |= {} if events is None else {"event_table": {"event_id": events}}
        for table, columns in tables.items():
            for name, values in columns.items():
                column = NUMBERS.get(name, name) if hdf5maker else name
                array = np.asarray(values)
                width = {"event_id": 3, "adc": N_TICKS}.get(name, 1)
                file[f"{table}/{column}"] = array.reshape(len(array), width)
            if seq_cnt and "event_id" in columns:
                ids = [tuple(row) for row in columns["event_id"]]
                counts = [(index, ids.count(event)) for index, event in enumerate(dict.fromkeys(ids))]
                file[f"{table}/event_id.seq_cnt"] = np.array(counts, np.int64).reshape(-1, 2)
    return path
