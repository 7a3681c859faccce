"""The native format: documented, versioned HDF5 for events with sparse waveforms, hits and truth.

docs/formats.md describes it for those who write it from other programs. All tables are flat columns; an offset column
cuts them into events. Every dataset carries a Fletcher-32 checksum and the file is laid out as HDF5 1.10 does, whose
metadata have checksums too, so that damage is always noticed.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from protosonic import __version__
from protosonic.detectors import detector_names, load_detector
from protosonic.errors import DataError, ProtosonicError
from protosonic.events.hdf5 import (
    damage_as_data_error,
    get_dataset,
    get_group,
    names,
    open_hdf5,
    read_all,
    read_slice,
    text_attribute,
)
from protosonic.events.model import (
    HIT_FIELDS,
    MAX_SAMPLES,
    Event,
    EventId,
    Hits,
    HitTruth,
    Waveforms,
    no_waveforms,
)
from protosonic.events.reader import (
    MAX_TICKS,
    BadEvent,
    EventFile,
    EventSummary,
    as_integers,
    count_by_plane,
    wanted_entries,
)
from protosonic.hdf5_output import publish_hdf5

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    import h5py
    from numpy.typing import NDArray

    from protosonic.detectors.geometry import Detector
    from protosonic.events.reader import ReaderOptions

__all__ = ["FORMAT_NAME", "FORMAT_VERSION", "NativeFile", "NativeWriter"]

FORMAT_NAME = "protosonic-native"
FORMAT_VERSION = 1
MAX_EVENTS = 10_000_000

# Column → type, by table. Offsets of a table have one element more than the table that they cut.
_EVENTS: dict[str, type[np.generic]] = {
    "run": np.int64,
    "subrun": np.int64,
    "event": np.int64,
    "n_ticks": np.int32,
    "has_waveforms": np.uint8,
}
_EVENT_OFFSETS = ("hit_offset", "waveform_offset", "bad_channel_offset")
_COLUMNS: dict[str, dict[str, type[np.generic]]] = {
    "events": _EVENTS | dict.fromkeys(_EVENT_OFFSETS, np.int64),
    "hits": HIT_FIELDS | {"in_wire_space": np.uint8},
    "waveforms": {"channel": np.int32, "n_samples": np.int32, "roi_offset": np.int64},
    "rois": {"start": np.int32, "value_offset": np.int64},
    "values": {"charge": np.float32},
    "bad_channels": {"channel": np.int32},
}
_TRUTH = {"hit_label": np.int8}


class NativeWriter:
    """Writes a native file; it appears under its name when the ``with`` block ends without an error.

    Parameters
    ----------
    path
        The file.
    detector
        The detector of all events.
    with_truth
        Whether every event brings :class:`HitTruth`.
    """

    def __init__(self, path: Path, detector: Detector, *, with_truth: bool = False) -> None:
        self._path = path
        self._detector = detector
        self._with_truth = with_truth
        # Kept open: closing a dataset compresses its last block, which the next event then has to inflate again.
        self._datasets: dict[tuple[str, str], h5py.Dataset] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            # Metadata have checksums from HDF5 1.10 on, but for the heap that holds text of variable length.
            self._file = stack.enter_context(publish_hdf5(self._path, libver=("v110", "v110")))
            self._create_tables()
            self._stack = stack.pop_all()
        return self

    def _create_tables(self) -> None:
        self._file.attrs["format_version"] = FORMAT_VERSION
        for name, text in {
            "format": FORMAT_NAME,
            "detector": self._detector.name,
            "charge_unit": "recob::Wire",
            "time_unit": "tick",
            "creator": f"protosonic {__version__}",
        }.items():
            self._file.attrs[name] = np.bytes_(text)
        columns = _COLUMNS | ({"truth": _TRUTH} if self._with_truth else {})
        for table, types in columns.items():
            for column, dtype in types.items():
                self._datasets[table, column] = self._file.create_dataset(
                    f"{table}/{column}",
                    shape=(0,),
                    maxshape=(None,),
                    dtype=dtype,
                    chunks=(1024 if table == "events" else 65536,),
                    compression="gzip",
                    compression_opts=1,
                    shuffle=True,
                    fletcher32=True,
                )
        for table, column in (*(("events", name) for name in _EVENT_OFFSETS), ("waveforms", "roi_offset")):
            self._append(table, column, np.zeros(1))
        self._append("rois", "value_offset", np.zeros(1))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, event: Event) -> None:
        """Append an event.

        Raises
        ------
        DataError
            Code ``wrong-detector``: the event is of another detector than the file.
        """
        if event.detector.name != self._detector.name:
            raise DataError(
                "a native file holds events of one detector",
                code="wrong-detector",
                file=self._path,
                where=str(event.id),
                expected=self._detector.name,
                found=event.detector.name,
            )
        hits, waveforms = event.hits, event.waveforms
        for name, value in zip(_EVENTS, (*event.id, event.n_ticks, waveforms is not None), strict=True):
            self._append("events", name, np.array([value]))
        for column in fields(hits):
            self._append("hits", column.name, getattr(hits, column.name))
        if self._with_truth:
            label = event.truth.label if event.truth else np.full(len(hits), -1)
            self._append("truth", "hit_label", label)
        self._append("bad_channels", "channel", event.bad_channels)
        if waveforms is not None:
            regions, samples = self._rows("rois", "start"), self._rows("values", "charge")
            self._append("waveforms", "channel", waveforms.channel)
            self._append("waveforms", "n_samples", waveforms.n_samples)
            self._append("waveforms", "roi_offset", waveforms.roi_offset[1:] + regions)
            self._append("rois", "start", waveforms.roi_start)
            self._append("rois", "value_offset", waveforms.value_offset[1:] + samples)
            self._append("values", "charge", waveforms.values)
        self._append("events", "hit_offset", np.array([self._rows("hits", "channel")]))
        self._append("events", "waveform_offset", np.array([self._rows("waveforms", "channel")]))
        self._append("events", "bad_channel_offset", np.array([self._rows("bad_channels", "channel")]))

    def _rows(self, table: str, column: str) -> int:
        return len(self._datasets[table, column])

    def _append(self, table: str, column: str, values: NDArray[Any]) -> None:
        dataset = self._datasets[table, column]
        start = len(dataset)
        dataset.resize((start + len(values),))
        dataset[start:] = values


class NativeFile(EventFile):
    """A native file; see the module's description."""

    format: ClassVar[str] = "native"

    def __init__(self, path: Path, options: ReaderOptions) -> None:
        super().__init__(path, options)
        self._file = open_hdf5(path)
        try:
            with damage_as_data_error(path, "attributes"):
                self._check_head()
            self._events = {name: self._event_column(name) for name in _COLUMNS["events"]}
            self._check_offsets()
        except ProtosonicError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __len__(self) -> int:
        return len(self._events["run"])

    def event_id(self, entry: int) -> EventId:
        """Give the numbers of an event."""
        return EventId(*(int(self._events[name][entry]) for name in ("run", "subrun", "event")))

    def read(self, entries: Sequence[int] | None = None) -> Iterator[Event | BadEvent]:
        """Read events; see :meth:`EventFile.read`."""
        for entry in wanted_entries(entries, len(self)):
            try:
                event = self._read_event(entry)
                event.check()
            except DataError as error:
                yield BadEvent(self.event_id(entry), entry, error)
            else:
                yield event

    def summaries(self) -> Iterator[EventSummary]:
        """Summarise every event from the offsets and the planes of the hits; waveforms are not read."""
        for entry in range(len(self)):
            event_id = self.event_id(entry)
            try:
                yield self._summary(entry, event_id)
            except DataError as error:
                yield EventSummary(event_id, entry, error=error)

    def _summary(self, entry: int, event_id: EventId) -> EventSummary:
        hits = self._part("hit_offset", entry)
        planes = self._read("hits", "plane", hits)
        hits_by_plane = count_by_plane(planes, self.detector)
        if not self._events["has_waveforms"][entry] and len(planes):
            raise no_waveforms()
        waveforms = self._part("waveform_offset", entry)
        roi_offset = self._read_offsets("waveforms", "roi_offset", waveforms)
        ends = self._read_offsets("rois", "value_offset", slice(int(roi_offset[0]), int(roi_offset[-1])))
        return EventSummary(
            event_id,
            entry,
            hits_by_plane=hits_by_plane,
            n_samples=int(ends[-1] - ends[0]),
        )

    def _check_head(self) -> None:
        version = self._file.attrs.get("format_version")
        if np.shape(version) != () or version != FORMAT_VERSION:
            raise DataError(
                "this version of the native format is not known",
                code="unsupported-format",
                file=self.path,
                where="attribute format_version",
                expected=FORMAT_VERSION,
                found=version,
                hint="Upgrade protosonic",
            )
        name = text_attribute(self._file, "detector")
        if name not in detector_names():
            raise DataError(
                "the file names a detector that is not known",
                code="wrong-detector",
                file=self.path,
                where="attribute detector",
                expected=f"one of {', '.join(detector_names())}",
                found=name,
            )
        self.detector = load_detector(name)
        configured = self.options.detector
        if configured is not None and name not in {configured, *load_detector(configured).other_numberings}:
            raise DataError(
                "the file is of another detector than the configuration says",
                code="wrong-detector",
                file=self.path,
                where="attribute detector",
                expected=configured,
                found=name,
                hint="Correct inputs[].detector or leave it out",
            )

    def _event_column(self, name: str) -> NDArray[Any]:
        group = get_group(self._file, "events", self.path)
        column = read_all(group, name, self.path, max_size=MAX_EVENTS, kinds="iu")
        return as_integers(column, _COLUMNS["events"][name], f"events/{name}")

    def _check_offsets(self) -> None:
        n_events = len(self._events["run"])
        tables = dict(zip(_EVENT_OFFSETS, ("hits", "waveforms", "bad_channels"), strict=True))
        for name, column in self._events.items():
            table = tables.get(name)
            if len(column) != n_events + (table is not None):
                raise self._corrupt(f"events/{name}", n_events, len(column))
            if table is not None:
                rows = self._dataset(table, "channel").shape[0]
                if column[0] != 0 or column[-1] != rows or np.any(np.diff(column) < 0):
                    raise self._corrupt(f"events/{name}", f"offsets rising from 0 to {rows}", column[-1])
        n_ticks = self._events["n_ticks"]
        if n_events and not 0 < n_ticks.min() <= n_ticks.max() <= MAX_TICKS:
            raise self._corrupt("events/n_ticks", f"1 to {MAX_TICKS}", f"{n_ticks.min()} to {n_ticks.max()}")

    def _corrupt(self, where: str, expected: object, found: object) -> DataError:
        return DataError(
            "the tables do not fit together",
            code="corrupt",
            file=self.path,
            where=where,
            expected=expected,
            found=found,
        )

    def _dataset(self, table: str, column: str) -> h5py.Dataset:
        return get_dataset(get_group(self._file, table, self.path), column, self.path, ndim=1)

    def _part(self, offsets: str, entry: int) -> slice:
        return slice(int(self._events[offsets][entry]), int(self._events[offsets][entry + 1]))

    def _read(self, table: str, column: str, part: slice) -> NDArray[Any]:
        dtype, where = (_COLUMNS | {"truth": _TRUTH})[table][column], f"{table}/{column}"
        count = part.stop - part.start
        if count > MAX_SAMPLES + 1:
            raise DataError(
                "an event has more rows than any detector makes",
                code="hostile",
                file=self.path,
                where=where,
                expected=f"at most {MAX_SAMPLES}",
                found=count,
            )
        values = read_slice(self._dataset(table, column), part, self.path)
        if len(values) != count:
            raise self._corrupt(where, f"rows up to {part.stop}", f"{part.start + len(values)} rows")
        if issubclass(dtype, np.integer):
            return as_integers(values, dtype, where)
        with np.errstate(over="ignore"):
            return values.astype(dtype, copy=False)

    def _read_offsets(self, table: str, column: str, part: slice) -> NDArray[Any]:
        """Read the offsets that cut a table below into the rows of `part`: one more than there are rows."""
        offsets = self._read(table, column, slice(part.start, part.stop + 1))
        if offsets[0] < 0 or np.any(np.diff(offsets) < 0):
            raise self._corrupt(f"{table}/{column}", "rising offsets", "falling or negative offsets")
        return offsets

    def _read_event(self, entry: int) -> Event:
        hits = self._part("hit_offset", entry)
        columns = {name: self._read("hits", name, hits) for name in _COLUMNS["hits"]}
        columns["in_wire_space"] = columns["in_wire_space"].astype(bool)
        truth = None
        if "truth" in names(self._file, self.path):
            truth = HitTruth(self._read("truth", "hit_label", hits))
        return Event(
            id=self.event_id(entry),
            entry=entry,
            detector=self.detector,
            n_ticks=int(self._events["n_ticks"][entry]),
            waveforms=self._read_waveforms(entry) if self._events["has_waveforms"][entry] else None,
            hits=Hits(**columns),
            bad_channels=self._read("bad_channels", "channel", self._part("bad_channel_offset", entry)),
            truth=truth,
        )

    def _scaled(self, charge: NDArray[np.float32]) -> NDArray[np.float32]:
        """Apply the configured charge scale; the unit of the format is that of recob::Wire, so it is rarely set."""
        scale = self.options.charge_scale
        return charge if scale in {None, 1.0} else charge * np.float32(scale)

    def _read_waveforms(self, entry: int) -> Waveforms:
        part = self._part("waveform_offset", entry)
        roi_offset = self._read_offsets("waveforms", "roi_offset", part)
        regions = slice(int(roi_offset[0]), int(roi_offset[-1]))
        value_offset = self._read_offsets("rois", "value_offset", regions)
        waveforms = Waveforms(
            channel=self._read("waveforms", "channel", part),
            n_samples=self._read("waveforms", "n_samples", part),
            roi_offset=roi_offset - regions.start,
            roi_start=self._read("rois", "start", regions),
            value_offset=value_offset - value_offset[0],
            values=self._scaled(
                self._read("values", "charge", slice(int(value_offset[0]), int(value_offset[-1])))
            ),
        )
        start, end = waveforms.roi_start, waveforms.roi_start + np.diff(waveforms.value_offset)
        if len(start) and not (start.min() >= 0 and end.max() <= MAX_TICKS):
            raise self._corrupt(
                "rois/start", f"regions within ticks 0 to {MAX_TICKS}", f"{start.min()} to {end.max()}"
            )
        of_waveform = np.repeat(np.arange(len(waveforms)), np.diff(waveforms.roi_offset))
        if np.any((start[1:] < end[:-1]) & (of_waveform[1:] == of_waveform[:-1])):
            raise self._corrupt("rois/start", "regions one after the other", "regions that overlap")
        if np.any(np.diff(waveforms.channel) <= 0):
            raise self._corrupt(
                "waveforms/channel", "rising channels in each event", "a channel out of order"
            )
        return waveforms
