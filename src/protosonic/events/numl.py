"""Reader of numl / pynuml (hep-hpc) HDF5 tables, the format of the MicroBooNE open data.

Tables are groups with one dataset per column, shape (N, 1) or (N, 3); each has ``event_id`` (run, subrun, event). Two
dialects of ``hit_table`` are read: ``local_plane, local_wire, local_time`` (MicroBooNE, pynuml) and ``plane, wire,
time`` (numl HDF5Maker), and also tables that pandas saved in the PyTables "fixed" layout, whose pickled text columns
are never touched. Only files with a ``wire_table`` (WithWire) can be classified; its rows are whole waveforms.
``peak_amplitude`` is not stored: it is that of the Gaussian of the hit's integral and rms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import h5py
import numpy as np

from protosonic.detectors.geometry import CRYOSTAT
from protosonic.errors import DataError, ProtosonicError
from protosonic.events.hdf5 import (
    ALL_ROWS,
    damage_as_data_error,
    get_dataset,
    get_group,
    get_member,
    names,
    open_hdf5,
    read_all,
    read_slice,
)
from protosonic.events.model import Event, EventId, Hits, Waveforms, no_waveforms
from protosonic.events.reader import (
    MAX_TICKS,
    BadEvent,
    EventFile,
    EventSummary,
    as_integers,
    count_by_plane,
    required_detector,
    wanted_entries,
)
from protosonic.events.waveform_builder import WaveformBuilder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from protosonic.events.reader import ReaderOptions
    from protosonic.events.source import AnyFile

__all__ = ["NumlFile", "looks_like_numl"]

MAX_ROWS = 500_000_000
BLOCK_BYTES = 16 * 2**20
# Name in this module → names in the dialects.
_DIALECTS = {
    "plane": ("local_plane", "plane"),
    "wire": ("local_wire", "wire"),
    "time": ("local_time", "time"),
}
_PYTABLES_BLOCK = "block{}_{}"


def looks_like_numl(file: h5py.File, path: AnyFile) -> bool:
    """Whether the file has a hit table, in either layout."""
    table = get_member(file, "hit_table", path)
    return isinstance(table, h5py.Group) and not {"hit_id", "axis0"}.isdisjoint(names(table, path))


class _Table:
    """One table, whatever its layout."""

    def __init__(self, file: h5py.File, name: str, path: AnyFile) -> None:
        self.name = name
        self._path = path
        self._group = get_group(file, name, path)
        self._blocks: dict[str, tuple[str, int]] = {}
        members = names(self._group, path)
        if "axis0" in members:
            for index in range(len(members)):
                items = _PYTABLES_BLOCK.format(index, "items")
                if items in members:
                    labels = read_all(self._group, items, path, max_size=1000, kinds="SU")
                    for column, label in enumerate(labels):
                        text = label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)
                        self._blocks[text] = (_PYTABLES_BLOCK.format(index, "values"), column)
            self.columns = set(self._blocks)
        else:
            self.columns = set(members)

    def read(self, column: str, part: slice = ALL_ROWS) -> NDArray[Any]:
        """Read a part of a column, [rows]."""
        if column not in self._blocks:
            return read_all(self._group, column, self._path, max_size=MAX_ROWS, rows=part)
        block, position = self._blocks[column]
        dataset = get_dataset(self._group, block, self._path, ndim=2)
        return read_slice(dataset, (part, position), self._path)

    def read_event_ids(self) -> NDArray[np.int64]:
        """Read the event of each row, [rows, 3]."""
        dataset = get_dataset(self._group, "event_id", self._path, ndim=2, kinds="iu")
        if dataset.shape[1] != 3 or dataset.size > 3 * MAX_ROWS:
            raise DataError(
                "event_id is not a list of run, subrun and event",
                code="corrupt",
                file=self._path,
                where=dataset.name,
                expected=f"three columns of at most {MAX_ROWS} rows",
                found=dataset.shape,
            )
        return as_integers(read_slice(dataset, (), self._path), np.int64, dataset.name)

    def read_rows(self, column: str, rows: NDArray[np.intp]) -> NDArray[Any]:
        """Read some rows of a column; those of one event usually stand together, so that little else is read."""
        if not len(rows):
            return self.read(column, slice(0, 0))
        part = slice(int(rows.min()), int(rows.max()) + 1)
        values = self.read(column, part)
        if len(values) != part.stop - part.start:
            raise DataError(
                "a column is shorter than the others of its table",
                code="corrupt",
                file=self._path,
                where=f"{self.name}/{column}",
                expected=f"at least {part.stop} rows",
                found=part.start + len(values),
            )
        return values[rows - part.start]

    def count_rows(self) -> int:
        """Count the rows of a table that has no event_id, by any column that is not text."""
        for column in sorted(self.columns):
            stored = self._blocks[column][0] if column in self._blocks else column
            item = get_member(self._group, stored, self._path)
            with damage_as_data_error(self._path, f"{self.name}/{stored}"):
                if isinstance(item, h5py.Dataset) and item.shape and not item.dtype.hasobject:
                    return int(item.shape[0])
        return 0

    def name_of(self, meaning: str) -> str:
        """Name the column whose name depends on the dialect."""
        for column in _DIALECTS[meaning]:
            if column in self.columns:
                return column
        raise DataError(
            "the table lacks a column",
            code="corrupt",
            file=self._path,
            where=self.name,
            expected=" or ".join(_DIALECTS[meaning]),
            found=", ".join(sorted(self.columns)),
        )


class NumlFile(EventFile):
    """A numl file; see the module's description."""

    format: ClassVar[str] = "numl"

    def __init__(self, path: AnyFile, options: ReaderOptions) -> None:
        super().__init__(path, options)
        self.detector = required_detector(options, path, self.format)
        self._file = open_hdf5(path)
        try:
            self._hits = _Table(self._file, "hit_table", path)
            self._ids = self._event_ids()
            self._rows = self._rows_of_events("hit_table", self._hits)
            self._wires: _Table | None = None
            if "wire_table" in names(self._file, path):
                self._wires = _Table(self._file, "wire_table", path)
                self._wire_rows = self._rows_of_events("wire_table", self._wires)
        except ProtosonicError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, entries: Sequence[int] | None = None) -> Iterator[Event | BadEvent]:
        """Read events; see :meth:`EventFile.read`."""
        for entry in wanted_entries(entries, len(self._ids)):
            try:
                event = self._read_event(entry)
                event.check()
            except DataError as error:
                yield BadEvent(self._ids[entry], entry, error)
            else:
                yield event

    def summaries(self) -> Iterator[EventSummary]:
        """Summarise every event; dense waveforms are not read, their number bounds that of their samples."""
        for entry, event_id in enumerate(self._ids):
            counts: tuple[int, ...] = ()
            try:
                planes = self._hits.read_rows(self._hits.name_of("plane"), self._rows[entry])
                counts = count_by_plane(as_integers(planes, np.int64, "hit_table"), self.detector)
                samples = self._estimate_samples(entry, has_hits=len(planes) > 0)
            except DataError as error:
                yield EventSummary(event_id, entry, hits_by_plane=counts, error=error)
            else:
                yield EventSummary(event_id, entry, hits_by_plane=counts, n_samples=samples)

    def _estimate_samples(self, entry: int, *, has_hits: bool) -> int:
        if self._wires is not None:
            ticks: int = self._adc().shape[1]
            return len(self._wire_rows[entry]) * ticks // 10
        if has_hits:
            raise no_waveforms()
        return 0

    def _event_ids(self) -> list[EventId]:
        """List the events in the order of the event table, else of their first hit."""
        there = names(self._file, self.path)
        tables = [_Table(self._file, table, self.path) for table in ("event_table",) if table in there]
        for table in [*tables, self._hits]:
            if "event_id" in table.columns:
                unique, first = np.unique(table.read_event_ids(), axis=0, return_index=True)
                return [EventId(*map(int, row)) for row in unique[np.argsort(first)]]
        n_events = tables[0].count_rows() if tables else 1
        if n_events != 1:
            raise DataError(
                "the tables have no event_id, so the hits of several events cannot be told apart",
                code="corrupt",
                file=self.path,
                where="hit_table/event_id",
                found=f"{n_events} events",
            )
        return [EventId(self.options.run, 0, 0)]

    def _rows_of_events(self, name: str, table: _Table) -> list[NDArray[np.intp]]:
        """Rows of each event, in the order of the table."""
        if "event_id" not in table.columns:
            if len(self._ids) > 1:
                raise DataError("the table has no event_id", code="corrupt", file=self.path, where=name)
            return [np.arange(table.count_rows())]
        index = {event_id: entry for entry, event_id in enumerate(self._ids)}
        rows, inverse = np.unique(table.read_event_ids(), axis=0, return_inverse=True)
        unknown = [EventId(*map(int, row)) for row in rows if EventId(*map(int, row)) not in index]
        if unknown:
            raise DataError(
                "the table has rows of an event that the event table does not list",
                code="corrupt",
                file=self.path,
                where=name,
                found=unknown[0],
            )
        entry_of_row = np.array([index[EventId(*map(int, row))] for row in rows], dtype=np.intp)[
            inverse.reshape(-1)
        ]
        order = np.argsort(entry_of_row, kind="stable")
        ends = np.searchsorted(entry_of_row[order], np.arange(1, len(self._ids) + 1))
        return np.split(order, ends[:-1])

    def _adc(self) -> h5py.Dataset:
        adc = get_dataset(get_group(self._file, "wire_table", self.path), "adc", self.path, ndim=2)
        if not 0 < adc.shape[1] <= MAX_TICKS:
            raise DataError(
                "the waveforms do not have the length of a readout window",
                code="hostile",
                file=self.path,
                where=adc.name,
                expected=f"1 to {MAX_TICKS} ticks",
                found=adc.shape[1],
            )
        return adc

    def _read_event(self, entry: int) -> Event:
        waveforms = None if self._wires is None else self._read_waveforms(self._wires, entry)
        return Event(
            id=self._ids[entry],
            entry=entry,
            detector=self.detector,
            n_ticks=self.detector.n_ticks if self._wires is None else self._adc().shape[1],
            waveforms=waveforms,
            hits=self._read_hits(entry),
        )

    def _read_hits(self, entry: int) -> Hits:
        rows = self._rows[entry]
        # The index of a hit in its collection is hit_id; rows may be stored in another order.
        rows = rows[np.argsort(self._hits.read_rows("hit_id", rows), kind="stable")]
        tpc, plane, wire = self._read_wires(self._hits, rows)
        time, rms, integral = (
            _single(self._hits.read_rows(column, rows))
            for column in (self._hits.name_of("time"), "rms", "integral")
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            amplitude = np.where(rms > 0, integral / (rms * np.sqrt(2 * np.pi)), 0)
        return Hits(
            channel=self._channels(tpc, plane, wire),
            cryostat=np.full(len(rows), CRYOSTAT, np.int16),
            tpc=tpc,
            plane=plane,
            wire=wire,
            peak_time=time,
            rms=rms,
            peak_amplitude=_single(amplitude),
            integral=integral,
            in_wire_space=np.ones(len(rows), dtype=bool),
        )

    def _read_wires(
        self, table: _Table, rows: NDArray[np.intp]
    ) -> tuple[NDArray[np.int16], NDArray[np.int8], NDArray[np.int32]]:
        """Read TPC, plane and wire of rows; files of detectors with one TPC may leave it out."""
        tpc = np.zeros(len(rows), np.int16)
        if "tpc" in table.columns:
            tpc = as_integers(table.read_rows("tpc", rows), np.int16, f"{table.name}/tpc")
        plane, wire = table.name_of("plane"), table.name_of("wire")
        return (
            tpc,
            as_integers(table.read_rows(plane, rows), np.int8, f"{table.name}/{plane}"),
            as_integers(table.read_rows(wire, rows), np.int32, f"{table.name}/{wire}"),
        )

    def _channels(
        self, tpc: NDArray[np.int16], plane: NDArray[np.int8], wire: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        channel = np.full(len(wire), -1, np.int32)
        for key, table in self.detector.tables.items():
            here = (tpc == key[0]) & (plane == key[1]) & (wire >= 0) & (wire < len(table))
            channel[here] = table[wire[here]]
        return channel

    def _read_waveforms(self, table: _Table, entry: int) -> Waveforms:
        rows = np.sort(self._wire_rows[entry])
        channels = self._channels(*self._read_wires(table, rows))
        if len(channels) and channels.min() < 0:
            raise DataError(
                f"a row of the wire table is not a wire of {self.detector.name}",
                code="wrong-detector",
                file=self.path,
                where="wire_table",
                hint="Set inputs[].detector to the detector of this file",
            )
        adc = self._adc()
        builder = WaveformBuilder()
        first_row = builder.add_rows(channels)
        step = max(BLOCK_BYTES // max(adc.shape[1] * adc.dtype.itemsize, 1), 1)
        # Rows that do not stand together are read apart, so that memory does not grow with the file.
        for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) != 1) + 1):
            for start in range(0, len(run), step):
                block_rows = rows[run[start : start + step]]
                block = read_slice(adc, slice(int(block_rows[0]), int(block_rows[-1]) + 1), self.path)
                if len(block) != len(block_rows):
                    raise DataError(
                        "there are fewer waveforms than rows in the wire table",
                        code="corrupt",
                        file=self.path,
                        where=adc.name,
                        expected=f"at least {block_rows[-1] + 1} rows",
                        found=adc.shape[0],
                    )
                builder.add_block(block, first_row + int(run[start]), 0)
        return builder.build(adc.shape[1], self.options.charge_scale or 1.0)


def _single(values: NDArray[Any]) -> NDArray[np.float32]:
    """Turn numbers into single precision; what is too large becomes infinite and is refused later."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)
