"""numl tables: both dialects, with and without waveforms, whatever the order of their rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from protosonic.errors import ConfigError
from protosonic.events.formats import open_events
from protosonic.events.model import Event, EventId
from protosonic.events.reader import BadEvent, ReaderOptions

from .builders import (
    FIRST,
    MICROBOONE,
    N_TICKS,
    SECOND,
    assert_same_event,
    hit_table,
    pulse,
    read_file,
    read_good,
    read_one,
    wire_table,
    without,
    write_numl,
)


def test_hits_have_the_columns_of_the_table(with_wires: Path) -> None:
    first, second = read_good(with_wires, **MICROBOONE)
    assert (first.id, first.entry, second.id, second.entry) == (EventId(*FIRST), 0, EventId(*SECOND), 1)
    assert (first.detector.name, first.n_ticks, first.truth) == ("microboone", N_TICKS, None)
    hits = first.hits
    assert hits.plane.tolist() == [2, 0]
    assert hits.wire.tolist() == [1525, 10]
    assert hits.channel.tolist() == [4800 + 1525, 10]
    assert hits.tpc.tolist() == hits.cryostat.tolist() == [0, 0]
    assert hits.peak_time.tolist() == [341.5, 20.25]
    assert hits.rms.tolist() == [4.0, 2.0]
    assert hits.integral.tolist() == [71.5, 30.0]
    assert hits.in_wire_space.all()
    np.testing.assert_allclose(
        hits.peak_amplitude, hits.integral / (hits.rms * np.sqrt(2 * np.pi)), rtol=1e-6
    )
    assert second.hits.channel.tolist() == [2400 + 2399]


def test_waveforms_stand_on_the_channels_of_their_wires(with_wires: Path) -> None:
    first, second = read_good(with_wires, **MICROBOONE)
    assert first.waveforms is not None
    assert second.waveforms is not None
    assert first.waveforms.channel.tolist() == [10, 4800 + 1525]
    dense = np.zeros((2, N_TICKS), np.float32)
    dense[first.waveforms.sample_waveform, first.waveforms.sample_tick] = first.waveforms.values
    np.testing.assert_array_equal(dense, [pulse(20, amplitude=2), pulse(30)])
    assert second.waveforms.channel.tolist() == [2400 + 2399]
    assert second.waveforms.values.max() == 9
    assert second.waveforms.n_samples.tolist() == [N_TICKS]


def test_waveforms_of_wrapped_planes_are_placed_by_tpc_and_wire(tmp_path: Path) -> None:
    wires = wire_table(tpc=[3, 2, 2], local_wire=[0, 5, 0])
    hits = hit_table(tpc=[3, 2, 2], local_wire=[0, 805, 0])
    events = read_good(write_numl(tmp_path / "sp.h5", hits, wires), detector="protodune-sp")
    channels = [event.waveforms.channel.tolist() for event in events if event.waveforms]
    assert channels == [[2560 + 5, 2560 + 2080], [2560 + 1147]]
    assert events[0].hits.channel.tolist() == [2560 + 2080, 2560 + 5]


@pytest.mark.parametrize("hdf5maker", [False, True])
@pytest.mark.parametrize("seq_cnt", [False, True])
@pytest.mark.parametrize("event_table", [False, True])
def test_dialects_and_indices_do_not_matter(
    tmp_path: Path, with_wires: Path, hdf5maker: bool, seq_cnt: bool, event_table: bool
) -> None:
    path = write_numl(
        tmp_path / "other.h5",
        hit_table(),
        wire_table(),
        [FIRST, SECOND] if event_table else None,
        hdf5maker=hdf5maker,
        seq_cnt=seq_cnt,
    )
    for one, other in zip(read_good(path, **MICROBOONE), read_good(with_wires, **MICROBOONE), strict=True):
        assert_same_event(one, other)


def test_a_wrong_seq_cnt_is_not_trusted(tmp_path: Path, with_wires: Path) -> None:
    path = write_numl(tmp_path / "other.h5", hit_table(), wire_table(), seq_cnt=True)
    with h5py.File(path, "a") as file:
        file["hit_table/event_id.seq_cnt"][...] = [[0, 1], [1, 2]]
    for one, other in zip(read_good(path, **MICROBOONE), read_good(with_wires, **MICROBOONE), strict=True):
        assert_same_event(one, other)


def test_wires_may_be_stored_as_floating_point(tmp_path: Path, with_wires: Path) -> None:
    wires = np.array([1525.0, 10.0, 2399.0], np.float32)
    path = write_numl(
        tmp_path / "float.h5", hit_table(local_wire=wires), wire_table(local_wire=wires), hdf5maker=True
    )
    for one, other in zip(read_good(path, **MICROBOONE), read_good(with_wires, **MICROBOONE), strict=True):
        assert_same_event(one, other)


def test_columns_may_be_flat(tmp_path: Path, with_wires: Path) -> None:
    flat = tmp_path / "flat.h5"
    with h5py.File(with_wires) as file, h5py.File(flat, "w") as copy:
        for table, group in file.items():
            for name, column in group.items():
                copy[f"{table}/{name}"] = column[:].squeeze() if column.shape[1] == 1 else column[:]
    for one, other in zip(read_good(flat, **MICROBOONE), read_good(with_wires, **MICROBOONE), strict=True):
        assert_same_event(one, other)


def test_rows_of_events_may_be_mixed(tmp_path: Path, with_wires: Path) -> None:
    order = [2, 0, 1]

    def mixed(table: dict[str, Any]) -> dict[str, Any]:
        return {name: np.asarray(values)[order] for name, values in table.items()}

    path = write_numl(tmp_path / "mixed.h5", mixed(hit_table()), mixed(wire_table()), [FIRST, SECOND])
    for one, other in zip(read_good(path, **MICROBOONE), read_good(with_wires, **MICROBOONE), strict=True):
        assert_same_event(one, other)


def test_waveforms_of_many_mixed_events_are_read_in_small_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_wires, n_events = 40, 3
    ids = [(1, 1, index % n_events) for index in range(n_wires)]
    adc = np.random.default_rng(3).integers(0, 2, (n_wires, N_TICKS)).astype(np.float32)
    wires = {"event_id": ids, "local_plane": [0] * n_wires, "local_wire": np.arange(n_wires), "adc": adc}
    hits = {name: [] for name in hit_table()} | {"event_id": np.empty((0, 3), np.int32)}
    path = write_numl(tmp_path / "a.h5", hits, wires, [(1, 1, event) for event in range(n_events)])
    monkeypatch.setattr("protosonic.events.numl.BLOCK_BYTES", 3 * 4 * N_TICKS)
    for number, event in enumerate(read_good(path, **MICROBOONE)):
        assert event.waveforms is not None
        assert event.waveforms.channel.tolist() == list(range(number, n_wires, n_events))
        dense = np.zeros((len(event.waveforms), N_TICKS), np.float32)
        dense[event.waveforms.sample_waveform, event.waveforms.sample_tick] = event.waveforms.values
        np.testing.assert_array_equal(dense, adc[number::n_events])


def test_hits_come_in_the_order_of_hit_id(tmp_path: Path) -> None:
    ids = [FIRST, FIRST, FIRST]
    path = write_numl(
        tmp_path / "a.h5", hit_table(ids, hit_id=[2, 0, 1]), wire_table(event_id=ids), events=[FIRST]
    )
    assert read_one(path, **MICROBOONE).hits.wire.tolist() == [10, 2399, 1525]


def test_events_come_in_the_order_of_the_event_table(tmp_path: Path) -> None:
    path = write_numl(tmp_path / "a.h5", hit_table(), wire_table(), [SECOND, FIRST])
    events = read_good(path, **MICROBOONE)
    assert [event.id.event for event in events] == [85252, 85251]
    assert [len(event.hits) for event in events] == [1, 2]
    with open_events(path, ReaderOptions(**MICROBOONE)) as file:
        assert [(event.entry, event.id.event) for event in file.read([1])] == [(1, 85251)]


def test_events_without_hits_are_events(tmp_path: Path) -> None:
    third = (7010, 1705, 85253)
    path = write_numl(tmp_path / "a.h5", hit_table(), wire_table(), [third, FIRST, SECOND], seq_cnt=True)
    empty, *_ = read_good(path, **MICROBOONE)
    assert (empty.id, len(empty.hits)) == (EventId(*third), 0)
    assert empty.waveforms is not None
    assert len(empty.waveforms) == 0


def test_hits_without_a_wire_table_have_no_image(tmp_path: Path) -> None:
    path = write_numl(tmp_path / "a.h5", hit_table(), events=[FIRST, SECOND, (1, 1, 1)])
    bad, other, empty = read_file(path, **MICROBOONE)
    assert isinstance(bad, BadEvent)
    assert isinstance(other, BadEvent)
    assert (bad.error.code, other.error.code) == ("no-waveforms", "no-waveforms")
    assert "wire table" in str(bad.error)
    assert isinstance(empty, Event)
    assert (len(empty.hits), empty.waveforms) == (0, None)
    with open_events(path, ReaderOptions(**MICROBOONE)) as file:
        summaries = list(file.summaries())
    assert [s.hits_by_plane for s in summaries] == [(1, 0, 1), (0, 1, 0), (0, 0, 0)]
    assert [s.error.code if s.error else None for s in summaries] == ["no-waveforms", "no-waveforms", None]


def test_the_summary_counts_hits_by_plane(with_wires: Path) -> None:
    with open_events(with_wires, ReaderOptions(**MICROBOONE)) as file:
        summaries = list(file.summaries())
    assert [s.hits_by_plane for s in summaries] == [(1, 0, 1), (0, 1, 0)]
    assert [s.id for s in summaries] == [EventId(*FIRST), EventId(*SECOND)]
    assert all(s.error is None and s.n_samples > 0 for s in summaries)


def test_the_charge_scale_applies_to_waveforms(with_wires: Path) -> None:
    first, _ = read_good(with_wires, charge_scale=0.5, **MICROBOONE)
    assert first.waveforms is not None
    assert first.waveforms.values.max() == 2.5
    assert first.hits.integral.tolist() == [71.5, 30.0]


def test_a_single_event_needs_no_event_id(tmp_path: Path) -> None:
    path = write_numl(tmp_path / "a.h5", without(hit_table(), "event_id"), without(wire_table(), "event_id"))
    event = read_one(path, run=3, **MICROBOONE)
    assert (event.id, len(event.hits)) == (EventId(3, 0, 0), 3)
    assert event.waveforms is not None
    assert len(event.waveforms) == 3


def test_the_detector_must_be_configured(with_wires: Path) -> None:
    with pytest.raises(ConfigError, match=r"inputs\[\]\.detector \(--detector\) is needed"):
        read_file(with_wires)
