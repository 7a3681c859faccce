"""numl tables that do not fit together, are damaged or hostile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from protosonic.events.formats import open_events
from protosonic.events.model import Event
from protosonic.events.reader import BadEvent, ReaderOptions

from .builders import (
    FIRST,
    MICROBOONE,
    N_TICKS,
    SECOND,
    hit_table,
    read_bad,
    read_file,
    refusal,
    wire_table,
    without,
    write_numl,
)


def test_several_events_without_event_id_are_refused(tmp_path: Path) -> None:
    path = write_numl(tmp_path / "a.h5", without(hit_table(), "event_id"))
    with h5py.File(path, "a") as file:
        file["event_table/nu_energy"] = np.zeros((2, 1), np.float32)
    error = refusal(path, **MICROBOONE)
    assert (error.code, error.found) == ("corrupt", "2 events")


def test_a_table_without_event_id_in_a_file_of_several_events_is_refused(tmp_path: Path) -> None:
    path = write_numl(tmp_path / "a.h5", hit_table(), without(wire_table(), "event_id"))
    error = refusal(path, **MICROBOONE)
    assert (error.code, error.where) == ("corrupt", "wire_table")


def test_hits_of_an_event_that_is_not_listed_are_refused(tmp_path: Path) -> None:
    error = refusal(write_numl(tmp_path / "a.h5", hit_table(), events=[FIRST]), **MICROBOONE)
    assert error.code == "corrupt"
    assert "event 85252" in str(error)


@pytest.mark.parametrize(
    "ids",
    [
        np.zeros((3, 2), np.int32),
        np.zeros((3, 4), np.int32),
        np.zeros(3, np.int32),
        np.zeros((3, 3)),
        np.full((3, 3), np.nan),
        h5py.Empty("i4"),
    ],
)
@pytest.mark.parametrize("table", ["hit_table", "wire_table"])
def test_an_event_id_that_is_not_three_numbers_is_refused(with_wires: Path, ids: Any, table: str) -> None:
    with h5py.File(with_wires, "a") as file:
        del file[f"{table}/event_id"]
        file[f"{table}/event_id"] = ids
    error = refusal(with_wires, **MICROBOONE)
    assert (error.code, error.where) == ("corrupt", f"/{table}/event_id")


@pytest.mark.parametrize("column", ["local_plane", "local_wire", "local_time", "rms", "integral"])
def test_a_missing_column_of_the_hits_is_named(tmp_path: Path, column: str) -> None:
    table = without(hit_table([FIRST] * 3), column)
    path = write_numl(tmp_path / "a.h5", table, wire_table(event_id=[FIRST] * 3))
    error = read_bad(path, **MICROBOONE)
    assert (error.code, column in str(error)) == ("corrupt", True)


@pytest.mark.parametrize("column", ["hit_id", "tpc", "local_plane", "local_wire", "local_time", "rms"])
def test_a_column_that_is_too_short_costs_the_events_beyond_it(with_wires: Path, column: str) -> None:
    with h5py.File(with_wires, "a") as file:
        short = file[f"hit_table/{column}"][:2]
        del file[f"hit_table/{column}"]
        file[f"hit_table/{column}"] = short
    good, bad = read_file(with_wires, **MICROBOONE)
    assert isinstance(good, Event)
    assert isinstance(bad, BadEvent)
    assert (bad.error.code, bad.error.where) == ("corrupt", f"hit_table/{column}")


def test_missing_waveforms_cost_the_events_beyond_them(with_wires: Path) -> None:
    with h5py.File(with_wires, "a") as file:
        short = file["wire_table/adc"][:2]
        del file["wire_table/adc"]
        file["wire_table/adc"] = short
    good, bad = read_file(with_wires, **MICROBOONE)
    assert isinstance(good, Event)
    assert isinstance(bad, BadEvent)
    assert (bad.error.code, bad.error.where) == ("corrupt", "/wire_table/adc")


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        ("local_plane", 3, "wrong-detector"),
        ("local_plane", -1, "wrong-detector"),
        ("local_plane", 258, "corrupt"),  # plane 2 in eight bits
        ("local_wire", 2400, "wrong-detector"),
        ("local_wire", -1, "wrong-detector"),
        ("local_wire", np.nan, "corrupt"),
        ("local_wire", 1e20, "corrupt"),
        ("tpc", 1, "wrong-detector"),
        ("tpc", 65536, "corrupt"),  # TPC 0 in sixteen bits
        ("local_time", np.nan, "not-finite"),
        ("rms", np.inf, "not-finite"),
        ("integral", -np.inf, "not-finite"),
        ("integral", 1e300, "not-finite"),
    ],
)
def test_a_hit_that_has_no_place_costs_only_its_event(
    tmp_path: Path, column: str, value: float, code: str
) -> None:
    values = [*hit_table()[column][:2], value]
    path = write_numl(tmp_path / "a.h5", hit_table(**{column: values}), wire_table())
    good, bad = read_file(path, **MICROBOONE)
    assert isinstance(good, Event)
    assert isinstance(bad, BadEvent)
    assert bad.error.code == code


@pytest.mark.parametrize("plane", [3, -1])
def test_a_hit_in_no_plane_is_found_by_the_summary_too(tmp_path: Path, plane: int) -> None:
    path = write_numl(tmp_path / "a.h5", hit_table(local_plane=[2, 0, plane]), wire_table())
    with open_events(path, ReaderOptions(**MICROBOONE)) as file:
        assert [s.error.code if s.error else None for s in file.summaries()] == [None, "wrong-detector"]


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"local_wire": [1525, 10, 2400]}, "wrong-detector"),
        ({"local_plane": [2, 0, 7]}, "wrong-detector"),
        ({"local_wire": [1525.0, 10.0, np.nan]}, "corrupt"),
        ({"adc": np.full((3, N_TICKS), [[0.0], [0.0], [np.nan]])}, "not-finite"),
    ],
)
def test_a_waveform_that_cannot_be_used_costs_only_its_event(
    tmp_path: Path, columns: dict[str, Any], code: str
) -> None:
    good, bad = read_file(write_numl(tmp_path / "a.h5", hit_table(), wire_table(**columns)), **MICROBOONE)
    assert isinstance(good, Event)
    assert isinstance(bad, BadEvent)
    assert bad.error.code == code


def test_a_wire_that_comes_twice_is_bad(tmp_path: Path) -> None:
    wires = wire_table(local_plane=[0, 0, 1], local_wire=[10, 10, 2399])
    bad, good = read_file(write_numl(tmp_path / "a.h5", hit_table(), wires), **MICROBOONE)
    assert isinstance(bad, BadEvent)
    assert bad.error.code == "corrupt"
    assert isinstance(good, Event)


@pytest.mark.parametrize("shape", [(3, 0), (3, 2**17)])
def test_waveforms_of_absurd_length_are_hostile(with_wires: Path, shape: tuple[int, int]) -> None:
    with h5py.File(with_wires, "a") as file:
        del file["wire_table/adc"]
        file.create_dataset("wire_table/adc", shape, "f4", chunks=(1, 128), maxshape=(None, None))
    for event in read_file(with_wires, **MICROBOONE):
        assert isinstance(event, BadEvent)
        assert event.error.code == "hostile"
    with open_events(with_wires, ReaderOptions(**MICROBOONE)) as file:
        assert [s.error.code for s in file.summaries() if s.error] == ["hostile", "hostile"]


@pytest.mark.parametrize("name", ["event_table", "wire_table"])
def test_a_table_without_columns_is_refused_or_empty(tmp_path: Path, name: str) -> None:
    path = write_numl(tmp_path / "a.h5", without(hit_table(), "event_id"))
    with h5py.File(path, "a") as file:
        file.create_group(name)
    if name == "event_table":
        assert refusal(path, **MICROBOONE).code == "corrupt"
    else:
        assert read_bad(path, **MICROBOONE).code == "corrupt"


@pytest.mark.parametrize("table", ["hit_table", "wire_table", "event_table"])
def test_a_table_in_another_file_is_hostile(tmp_path: Path, with_wires: Path, table: str) -> None:
    elsewhere = write_numl(tmp_path / "elsewhere.h5", hit_table(), wire_table(), [FIRST, SECOND])
    with h5py.File(with_wires, "a") as file:
        if table in file:
            del file[table]
        file[table] = h5py.ExternalLink(elsewhere.name, f"/{table}")
    assert refusal(with_wires, **MICROBOONE).code == "hostile"


def test_a_column_of_absurd_length_is_hostile(with_wires: Path) -> None:
    """It was never written, so it takes no space in the file."""
    with h5py.File(with_wires, "a") as file:
        del file["hit_table/event_id"]
        file.create_dataset("hit_table/event_id", (2**40, 3), "i4", chunks=(128, 3), maxshape=(None, 3))
    assert refusal(with_wires, **MICROBOONE).code == "corrupt"
