"""The native format: documented, versioned HDF5 for events with sparse waveforms, hits and truth.

docs/formats.md describes it for those who write it from other programs. All tables are flat columns; an offset column
cuts them into events. Every dataset carries a Fletcher-32 checksum and the file is laid out as HDF5 1.10 does, whose
metadata have checksums too, so that damage is always noticed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

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
    MAX_SAMPLES,
    Event,
    EventId,
    Hits,
    Waveforms,
    no_waveforms,
)
from protosonic.events.native_tables import (
    COLUMNS,
    EVENT_OFFSETS,
    FORMAT_NAME,
    FORMAT_VERSION,
    MAX_EVENTS,
    TRUTH_COLUMNS,
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
from protosonic.events.truth import HitTruth, Particles

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import h5py
    from numpy.typing import NDArray

    from protosonic.events.reader import ReaderOptions
    from protosonic.events.source import AnyFile

__all__ = ["FORMAT_NAME", "FORMAT_VERSION", "NativeFile"]


class NativeFile(EventFile):
    """A native file; see the module's description."""

    format: ClassVar[str] = "native"

    def __init__(self, path: AnyFile, options: ReaderOptions) -> None:
        super().__init__(path, options)
        self._file = open_hdf5(path)
        try:
            with damage_as_data_error(path, "attributes"):
                self._check_head()
            self._events = {name: self._event_column(name) for name in COLUMNS["events"]}
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
        return as_integers(column, COLUMNS["events"][name], f"events/{name}")

    def _check_offsets(self) -> None:
        n_events = len(self._events["run"])
        tables = dict(zip(EVENT_OFFSETS, ("hits", "waveforms", "bad_channels"), strict=True))
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
        dtype, where = (COLUMNS | TRUTH_COLUMNS)[table][column], f"{table}/{column}"
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
        columns = {name: self._read("hits", name, hits) for name in COLUMNS["hits"]}
        columns["in_wire_space"] = columns["in_wire_space"].astype(bool)
        waveforms, samples = (
            self._read_waveforms(entry) if self._events["has_waveforms"][entry] else (None, slice(0, 0))
        )
        truth = self._truth_columns()
        return Event(
            id=self.event_id(entry),
            entry=entry,
            detector=self.detector,
            n_ticks=int(self._events["n_ticks"][entry]),
            waveforms=waveforms,
            hits=Hits(**columns),
            bad_channels=self._read("bad_channels", "channel", self._part("bad_channel_offset", entry)),
            truth=None if truth is None else self._read_hit_truth(hits, truth),
            sample_label=(
                self._read("truth", "sample_label", samples)
                if waveforms is not None and truth is not None and "sample_label" in truth
                else None
            ),
            particles=(
                self._read_particles(entry) if truth is not None and "particle_offset" in truth else None
            ),
        )

    def _truth_columns(self) -> list[str] | None:
        if "truth" not in names(self._file, self.path):
            return None
        return names(get_group(self._file, "truth", self.path), self.path)

    def _read_hit_truth(self, hits: slice, columns: list[str]) -> HitTruth:
        """Read the truth of hits; where there is truth, their classes have to be there."""
        truth = HitTruth.of_labels(self._read("truth", "hit_label", hits))
        others = {
            name: self._read("truth", f"hit_{name}", hits)
            for name in ("particle", "charge_fraction")
            if f"hit_{name}" in columns
        }
        return replace(truth, **others)

    def _read_particles(self, entry: int) -> Particles:
        offsets = self._read_offsets("truth", "particle_offset", slice(entry, entry + 1))
        part = slice(int(offsets[0]), int(offsets[1]))
        return Particles(**{name: self._read("particles", name, part) for name in TRUTH_COLUMNS["particles"]})

    def _scaled(self, charge: NDArray[np.float32]) -> NDArray[np.float32]:
        """Apply the configured charge scale; the unit of the format is that of recob::Wire, so it is rarely set."""
        scale = self.options.charge_scale
        return charge if scale in {None, 1.0} else charge * np.float32(scale)

    def _read_waveforms(self, entry: int) -> tuple[Waveforms, slice]:
        """Read the waveforms of an event; also gives the rows of their samples in the file."""
        part = self._part("waveform_offset", entry)
        roi_offset = self._read_offsets("waveforms", "roi_offset", part)
        regions = slice(int(roi_offset[0]), int(roi_offset[-1]))
        value_offset = self._read_offsets("rois", "value_offset", regions)
        samples = slice(int(value_offset[0]), int(value_offset[-1]))
        waveforms = Waveforms(
            channel=self._read("waveforms", "channel", part),
            n_samples=self._read("waveforms", "n_samples", part),
            roi_offset=roi_offset - regions.start,
            roi_start=self._read("rois", "start", regions),
            value_offset=value_offset - value_offset[0],
            values=self._scaled(self._read("values", "charge", samples)),
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
        return waveforms, samples
