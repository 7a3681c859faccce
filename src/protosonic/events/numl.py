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
from protosonic.errors import DataError
from protosonic.events.hdf5 import get_dataset, names, open_hdf5, read_all, read_slice
from protosonic.events.model import Event, EventId, Hits, WaveformBuilder, Waveforms, no_waveforms
from protosonic.events.reader import MAX_TICKS, BadEvent, EventFile, EventSummary, required_detector

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from protosonic.events.reader import ReaderOptions

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


def looks_like_numl(file: h5py.File) -> bool:
    """Whether the file has a hit table, in either layout."""
    table = file.get("hit_table")
    return isinstance(table, h5py.Group) and ("hit_id" in table or "axis0" in table)


class _Table:
    """One table, whatever its layout."""

    def __init__(self, file: h5py.File, name: str, path: Path) -> None:
        self.name = name
        self._path = path
        self._group = file[name]
        self._blocks: dict[str, tuple[str, int]] = {}
        members = names(self._group, path)
        if "axis0" in members:
            for index in range(len(members)):
                items = _PYTABLES_BLOCK.format(index, "items")
                if items in members:
                    labels = read_all(self._group, items, path, max_size=1000, kinds="SU")
                    for column, label in enumerate(labels):
                        text = label.decode() if isinstance(label, bytes) else str(label)
                        self._blocks[text] = (_PYTABLES_BLOCK.format(index, "values"), column)
            self.columns = set(self._blocks)
        else:
            self.columns = set(members)

    def read(self, column: str) -> NDArray[Any]:
        """Read a column, [rows] or [rows, 3]."""
        if column in self._blocks:
            block, position = self._blocks[column]
            dataset = get_dataset(self._group, block, self._path, ndim=2)
            return read_slice(dataset, (slice(None), position), self._path)
        if column == "event_id":
            return read_slice(get_dataset(self._group, column, self._path, ndim=2), (), self._path)
        return read_all(self._group, column, self._path, max_size=MAX_ROWS)

    def read_as(self, meaning: str) -> NDArray[Any]:
        """Read a column whose name depends on the dialect."""
        for column in _DIALECTS[meaning]:
            if column in self.columns:
                return self.read(column)
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

    def __init__(self, path: Path, options: ReaderOptions) -> None:
        super().__init__(path, options)
        self.detector = required_detector(options, path, self.format)
        self._file = open_hdf5(path)
        try:
            self._hits = _Table(self._file, "hit_table", path)
            self._ids = self._event_ids()
            self._rows = self._rows_of_events("hit_table", self._hits)
            self._wires: _Table | None = None
            if "wire_table" in self._file:
                self._wires = _Table(self._file, "wire_table", path)
                self._wire_rows = self._rows_of_events("wire_table", self._wires)
        except DataError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, entries: Sequence[int] | None = None) -> Iterator[Event | BadEvent]:
        """Read events; see :meth:`EventFile.read`."""
        for entry in range(len(self._ids)) if entries is None else sorted(entries):
            try:
                event = self._read_event(entry)
                event.check()
            except DataError as error:
                yield BadEvent(self._ids[entry], entry, error)
            else:
                yield event

    def summaries(self) -> Iterator[EventSummary]:
        """Summarise every event; dense waveforms are not read, their number bounds that of their samples."""
        planes = self._hits.read_as("plane").astype(np.int64)
        for entry, event_id in enumerate(self._ids):
            counts = tuple(np.bincount(planes[self._rows[entry]], minlength=3).tolist())
            if self._wires is None and sum(counts):
                yield EventSummary(event_id, entry, hits_by_plane=counts, error=no_waveforms())
            else:
                samples = (
                    0 if self._wires is None else len(self._wire_rows[entry]) * self._adc().shape[1] // 10
                )
                yield EventSummary(event_id, entry, hits_by_plane=counts, n_samples=samples)

    def _event_ids(self) -> list[EventId]:
        """List the events in the order of the event table, else of their first hit."""
        for table in ("event_table", "hit_table"):
            if isinstance(self._file.get(table), h5py.Group):
                content = _Table(self._file, table, self.path)
                if "event_id" in content.columns:
                    rows = content.read("event_id")
                    unique, first = np.unique(rows, axis=0, return_index=True)
                    return [EventId(*map(int, row)) for row in unique[np.argsort(first)]]
        n_events = 1
        if "event_table" in self._file:
            event_table = _Table(self._file, "event_table", self.path)
            n_events = len(event_table.read(min(event_table.columns)))
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
            column = "hit_id" if "hit_id" in table.columns else min(table.columns)
            return [np.arange(len(table.read(column)))]
        index = {event_id: entry for entry, event_id in enumerate(self._ids)}
        rows, inverse = np.unique(table.read("event_id"), axis=0, return_inverse=True)
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
        adc = get_dataset(self._file["wire_table"], "adc", self.path, ndim=2)
        if adc.shape[1] > MAX_TICKS:
            raise DataError(
                "the waveforms are longer than any readout window",
                code="hostile",
                file=self.path,
                where=adc.name,
                expected=f"at most {MAX_TICKS} ticks",
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
        rows = rows[np.argsort(self._hits.read("hit_id")[rows], kind="stable")]
        plane = self._hits.read_as("plane")[rows].astype(np.int8)
        wire = np.rint(self._hits.read_as("wire")[rows]).astype(np.int32)
        tpc = self._hits.read("tpc")[rows] if "tpc" in self._hits.columns else np.zeros(len(rows))
        rms = self._hits.read("rms")[rows].astype(np.float32)
        integral = self._hits.read("integral")[rows].astype(np.float32)
        with np.errstate(divide="ignore", invalid="ignore"):
            amplitude = np.where(rms > 0, integral / (rms * np.sqrt(2 * np.pi)), 0)
        return Hits(
            channel=self._channels(tpc.astype(np.int64), plane.astype(np.int64), wire),
            cryostat=np.full(len(rows), CRYOSTAT, np.int16),
            tpc=tpc.astype(np.int16),
            plane=plane,
            wire=wire,
            peak_time=self._hits.read_as("time")[rows].astype(np.float32),
            rms=rms,
            peak_amplitude=amplitude.astype(np.float32),
            integral=integral,
            in_wire_space=np.ones(len(rows), dtype=bool),
        )

    def _channels(
        self, tpc: NDArray[np.int64], plane: NDArray[np.int64], wire: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        channel = np.full(len(wire), -1, np.int32)
        for key, table in self.detector.tables.items():
            here = (tpc == key[0]) & (plane == key[1]) & (wire >= 0) & (wire < len(table))
            channel[here] = table[wire[here]]
        return channel

    def _read_waveforms(self, table: _Table, entry: int) -> Waveforms:
        rows = np.sort(self._wire_rows[entry])
        tpc = table.read("tpc")[rows] if "tpc" in table.columns else np.zeros(len(rows), np.int64)
        wire = np.rint(table.read_as("wire")[rows]).astype(np.int32)
        channels = self._channels(tpc.astype(np.int64), table.read_as("plane")[rows].astype(np.int64), wire)
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
        for start in range(0, len(rows), step):
            wanted = rows[start : start + step]
            block = read_slice(adc, slice(int(wanted[0]), int(wanted[-1]) + 1), self.path)
            builder.add_block(block[wanted - wanted[0]], first_row + start, 0)
        return builder.build(adc.shape[1], self.options.charge_scale or 1.0)
