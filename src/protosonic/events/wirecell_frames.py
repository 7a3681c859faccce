"""What Wire-Cell archives and HDF5 files have in common: tags, frames and the events made from them.

A frame is a dense array of charge, [channels, bins], with the list of its channels and ``tickinfo`` (start time in ns,
tick in ns, first bin). The stored tick length is not used: files are known in which it is wrong. Sources:
wire-cell-toolkit ``sio/FrameFileSink`` and ``hio/HDF5FrameTap``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from protosonic.errors import DataError
from protosonic.events.hit_finder import find_hits
from protosonic.events.hit_truth import hit_truth_from_samples
from protosonic.events.model import Event, EventId, Hits
from protosonic.events.reader import (
    MAX_TICKS,
    BadEvent,
    EventFile,
    EventSummary,
    numbering_of,
    numberings,
    required_detector,
    required_scale,
)
from protosonic.events.waveform_builder import WaveformBuilder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from protosonic.detectors.geometry import Detector
    from protosonic.events.reader import ReaderOptions
    from protosonic.events.source import AnyFile

__all__ = ["FrameEvent", "WireCellFile", "check_frame", "choose_tags"]

COLLECTION_PLANE = 2


@dataclass
class FrameEvent:
    """The frames of one event as they are collected; :meth:`finish` makes the event."""

    ident: int
    builder: WaveformBuilder = field(default_factory=WaveformBuilder)
    channels: list[NDArray[np.int32]] = field(default_factory=list)
    bad_channels: list[NDArray[np.int32]] = field(default_factory=list)
    n_bins: int = 0
    error: DataError | None = None

    def begin_frame(self, channels: NDArray[np.int32], n_bins: int, first_bin: int) -> int:
        """Announce a frame; returns the row number of its first channel."""
        self.channels.append(channels)
        self.n_bins = max(self.n_bins, first_bin + n_bins)
        return self.builder.add_rows(channels)


class WireCellFile(EventFile):
    """Base of the Wire-Cell readers; they only differ in how frames are stored."""

    def __init__(self, path: AnyFile, options: ReaderOptions) -> None:
        super().__init__(path, options)
        self.detector = required_detector(options, path, self.format)
        self.charge_scale = required_scale(options, path)

    def summaries(self) -> Iterator[EventSummary]:
        """Summarise every event; hits have to be found for it, so all frames are read."""
        for event in self.read():
            if isinstance(event, BadEvent):
                yield EventSummary(event.id, event.entry, error=event.error)
                continue
            on_collection = event.hits.peak_amplitude[event.hits.plane == COLLECTION_PLANE]
            yield EventSummary(
                event.id,
                event.entry,
                hits_by_plane=tuple(event.hits.count_by_plane()),
                n_samples=len(event.waveforms.values) if event.waveforms else 0,
                median_amplitude=float(np.median(on_collection)) if len(on_collection) else None,
            )

    def finish(self, frames: FrameEvent, entry: int) -> Event | BadEvent:
        """Make the event from its frames."""
        event_id = EventId(self.options.run, 0, frames.ident)
        try:
            if frames.error is not None:
                raise frames.error
            detector = numbering_of(self.detector, _concatenated(frames.channels))
            n_ticks = frames.n_bins * self.options.ticks_per_bin
            waveforms = frames.builder.build(n_ticks, self.charge_scale, self.options.ticks_per_bin)
            event = Event(
                id=event_id,
                entry=entry,
                detector=detector,
                n_ticks=n_ticks,
                waveforms=waveforms,
                hits=Hits.empty(),
                bad_channels=np.unique(_concatenated(frames.bad_channels)),
                sample_label=frames.builder.sample_label,
            )
            event.check()
            event = with_found_hits(event, self.options.hit_threshold)
            event.hits.check(detector)  # charge at the limit of single precision has no finite integral
        except DataError as error:
            return BadEvent(event_id, entry, error)
        return event


def with_found_hits(event: Event, threshold: float) -> Event:
    """Give the event with the hits that the hit finder sees in it, and their truth where that of samples is known."""
    assert event.waveforms is not None
    hits = find_hits(event.waveforms, event.detector, threshold, event.bad_channels)
    truth = None
    if event.sample_label is not None:
        truth = hit_truth_from_samples(hits, event.waveforms, event.sample_label)
    return replace(event, hits=hits, truth=truth)


def check_frame(
    shape: tuple[int, ...],
    n_channels: int,
    first_bin: float,
    detector: Detector,
    ticks_per_bin: int,
    where: str,
) -> None:
    """Refuse a frame whose header alone shows that it is wrong or a decompression bomb.

    Raises
    ------
    DataError
        Code ``corrupt`` or ``hostile``.
    """
    if len(shape) != 2 or shape[0] != n_channels:
        raise DataError(
            "the frame does not have one row per channel",
            code="corrupt",
            where=where,
            expected=f"{n_channels} rows",
            found=f"shape {shape}",
        )
    if shape[1] == 0:
        raise DataError("the frame has no ticks", code="corrupt", where=where, found=f"shape {shape}")
    most = max(other.n_channels for other in numberings(detector))
    ticks = (first_bin + shape[1]) * ticks_per_bin
    if shape[0] > most or not first_bin >= 0 or not ticks <= MAX_TICKS:
        raise DataError(
            "the frame is larger than the detector can make",
            code="hostile",
            where=where,
            expected=f"at most {most} channels of {detector.name} and {MAX_TICKS} ticks",
            found=f"{shape[0]} channels, {ticks:.0f} ticks",
            hint="Check inputs[].detector and inputs[].ticks_per_bin",
        )


def choose_tags(tags: Iterable[str], wanted: str) -> list[str]:
    """Choose the frames of an event by tag.

    The tag itself or the tag with an anode number (``gauss``, ``gauss1``) comes first; else every tag that begins
    with it, if those differ only in the anode number.

    Raises
    ------
    DataError
        Code ``no-frame``: none matches, or several kinds do.
    """
    available = sorted(set(tags))
    stems = {tag: tag.rstrip("0123456789") for tag in available}
    exact = [tag for tag in available if wanted in {tag, stems[tag]}]
    if wanted in exact and stems[wanted] != wanted:
        return [wanted]  # "gauss1" asks for one anode, not for gauss10
    if exact:
        return exact
    begin = [tag for tag in available if tag.startswith(wanted)]
    if len({stems[tag] for tag in begin}) == 1:
        return begin
    raise DataError(
        f"no single kind of frame has a tag that begins with '{wanted}'",
        code="no-frame",
        found=f"tags {', '.join(available) or 'none'}",
        hint="Set inputs[].tag to one of these",
    )


def _concatenated(parts: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    return np.concatenate(parts) if parts else np.empty(0, np.int32)
