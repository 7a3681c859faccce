"""numl tables that pandas saved in the PyTables "fixed" layout; their pickled columns are never touched."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from protosonic.events.model import EventId

from .builders import N_TICKS, TouchWhenUnpickled, pulse, read_bad, read_one, refusal

WIRES = {"local_plane": [2, 0], "local_wire": [5, 7]}
HITS = WIRES | {
    "hit_id": [1, 0],
    "tpc": [0, 0],
    "local_time": [50.0, 60.0],
    "rms": [1.0, 2.0],
    "integral": [3.0, 4.0],
}


def add_fixed_table(file: h5py.File, name: str, columns: dict[str, list[float]], text: bytes = b"") -> None:
    """A table as ``DataFrame.to_hdf(format="fixed")`` lays it out: one block per type, text as one pickle."""
    group = file.create_group(name)
    group.attrs["pandas_type"] = np.bytes_("frame")
    group["axis0"] = np.array([*columns, *(["process"] if text else [])], "S")
    group["axis1"] = np.arange(len(next(iter(columns.values()))))
    kinds = [("f", np.float32), ("i", np.int32)]
    for block, (kind, dtype) in enumerate(kinds):
        of_kind = {key: values for key, values in columns.items() if np.asarray(values).dtype.kind == kind}
        group[f"block{block}_items"] = np.array(list(of_kind), "S") if of_kind else np.empty(0, "S1")
        group[f"block{block}_values"] = np.array(list(of_kind.values()), dtype).T
    if text:
        group["block2_items"] = np.array(["process"], "S")
        pickled = group.create_dataset("block2_values", (1,), h5py.vlen_dtype(np.uint8))
        pickled[0] = np.frombuffer(text, np.uint8)


def fixed_file(path: Path, text: bytes = b"", *, wires: bool = True) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["PYTABLES_FORMAT_VERSION"] = np.bytes_("2.1")
        add_fixed_table(file, "hit_table", HITS, text)
        add_fixed_table(file, "event_table", {"nu_energy": [1.0]})
        add_fixed_table(file, "particle_table", {"g4_id": [1]}, text)
        if wires:
            file["wire_table/adc"] = np.stack([pulse(50), pulse(60)])
            for name, values in WIRES.items():
                file[f"wire_table/{name}"] = values
    return path


def test_the_fixed_layout_is_read(tmp_path: Path) -> None:
    event = read_one(fixed_file(tmp_path / "a.h5"), detector="microboone", run=9)
    assert (event.id, event.n_ticks) == (EventId(9, 0, 0), N_TICKS)
    assert event.hits.wire.tolist() == [7, 5]
    assert event.hits.plane.tolist() == [0, 2]
    assert event.hits.peak_time.tolist() == [60.0, 50.0]
    assert event.hits.rms.tolist() == [2.0, 1.0]
    assert event.waveforms is not None
    assert event.waveforms.channel.tolist() == [7, 4805]


def test_without_wires_it_has_no_image(tmp_path: Path) -> None:
    path = fixed_file(tmp_path / "a.h5", wires=False)
    assert read_bad(path, detector="microboone").code == "no-waveforms"


def test_pickled_columns_are_never_loaded(tmp_path: Path) -> None:
    marker = tmp_path / "loaded"
    text = pickle.dumps(TouchWhenUnpickled(marker))
    event = read_one(fixed_file(tmp_path / "a.h5", text), detector="microboone")
    assert len(event.hits) == 2
    assert not marker.exists()
    pickle.loads(text)
    assert marker.exists()


@pytest.mark.parametrize("items", [["integral", "rms", "local_time", "more"], ["integral", "rms"]])
def test_names_that_do_not_fit_their_block_are_bad(tmp_path: Path, items: list[str]) -> None:
    path = fixed_file(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        del file["hit_table/block0_items"]
        file["hit_table/block0_items"] = np.array([*items[:-1], items[-1]], "S")
        if len(items) > 3:
            values = file["hit_table/block0_values"][:, :2]
            del file["hit_table/block0_values"]
            file["hit_table/block0_values"] = values
    assert read_bad(path, detector="microboone").code == "corrupt"


def test_pickled_names_are_refused(tmp_path: Path) -> None:
    marker = tmp_path / "loaded"
    path = fixed_file(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        del file["hit_table/block0_items"]
        names = file.create_dataset("hit_table/block0_items", (1,), h5py.vlen_dtype(np.uint8))
        names[0] = np.frombuffer(pickle.dumps(TouchWhenUnpickled(marker)), np.uint8)
    assert refusal(path, detector="microboone").code == "corrupt"
    assert not marker.exists()


def test_a_table_without_blocks_is_an_event_without_hits_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["hit_table/axis0"] = np.empty(0, "S1")
    assert read_bad(path, detector="microboone").code == "corrupt"
