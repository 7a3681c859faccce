"""Reader of Wire-Cell HDF5 frames (``HDF5FrameTap``).

``/<ident>/frame_<tag>`` float32 or int16 [channels, bins], ``channels_<tag>`` int32, ``tickinfo_<tag>`` float64 [3].
There are no attributes: detector, unit and run number come from the configuration. Frames are read by blocks of rows,
so memory does not grow with the size of the file. Where simulation stores the class of each bin beside the frame,
``frame_label_1st`` int8 [channels, bins] (the class of the particle with most of its energy), it becomes the truth.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, ClassVar

import h5py
import numpy as np

from protosonic.errors import DataError, ProtosonicError
from protosonic.events.hdf5 import (
    get_dataset,
    get_group,
    get_member,
    names,
    open_hdf5,
    read_all,
    read_slice,
)
from protosonic.events.reader import as_integers, wanted_entries
from protosonic.events.truth import HitTruth
from protosonic.events.wirecell_frames import FrameEvent, WireCellFile, check_frame, choose_tags

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from protosonic.events.model import Event
    from protosonic.events.reader import BadEvent, ReaderOptions
    from protosonic.events.source import AnyFile

__all__ = ["WireCellHdf5File", "looks_like_frames"]

BLOCK_BYTES = 16 * 2**20
MAX_CHANNELS = 2**20
LABEL_FRAME = "frame_label_1st"
IDENT = re.compile(r"0|[1-9][0-9]{0,17}")
"""What Wire-Cell makes of a frame's number."""

log = logging.getLogger(__name__)

_TRACK, _EM, _NONE, _MICHEL = range(len(HitTruth.LABELS))
# 0 background, 1 track, 2 shower, 3 Michel, 4 delta, 5 blip, 6 other. A blip may be of anything, so it is unknown.
_CLASS_OF_LABEL = np.full(256, HitTruth.UNKNOWN, np.int8)
_CLASS_OF_LABEL[:5] = _NONE, _TRACK, _EM, _MICHEL, _EM


def looks_like_frames(file: h5py.File, path: AnyFile) -> bool:
    """Whether the file has groups named by number that hold frames."""
    numbered = _numbered(names(file, path))
    first = get_member(file, str(numbered[0]), path) if numbered else None
    return isinstance(first, h5py.Group) and any(name.startswith("frame_") for name in names(first, path))


def _numbered(members: list[str]) -> list[int]:
    """Give the frame idents among names, ascending; names are decimal strings, where "2" comes after "10"."""
    return sorted(int(name) for name in members if IDENT.fullmatch(name))


class WireCellHdf5File(WireCellFile):
    """A Wire-Cell HDF5 file; see the module's description."""

    format: ClassVar[str] = "wirecell-hdf5"

    def __init__(self, path: AnyFile, options: ReaderOptions) -> None:
        super().__init__(path, options)
        self._file = open_hdf5(path)
        try:
            self._idents = _numbered(names(self._file, path))
        except ProtosonicError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, entries: Sequence[int] | None = None) -> Iterator[Event | BadEvent]:
        """Read events; see :meth:`EventFile.read`."""
        for entry in wanted_entries(entries, len(self._idents)):
            frames = FrameEvent(self._idents[entry])
            try:
                self._collect(frames)
            except DataError as error:
                frames.error = error
            yield self.finish(frames, entry)

    def _collect(self, frames: FrameEvent) -> None:
        group = get_group(self._file, str(frames.ident), self.path)
        members = names(group, self.path)
        tags = [name.removeprefix("frame_") for name in members if name.startswith("frame_")]
        chosen = choose_tags(tags, self.options.tag)
        labels = None
        if LABEL_FRAME in members and len(chosen) == 1:
            labels = get_dataset(group, LABEL_FRAME, self.path, ndim=2, kinds="iu")
        for tag in chosen:
            self._collect_frame(frames, group, tag, f"channels_{tag}" in members, labels)

    def _collect_frame(
        self,
        frames: FrameEvent,
        group: h5py.Group,
        tag: str,
        has_channels: bool,
        labels: h5py.Dataset | None,
    ) -> None:
        frame = get_dataset(group, f"frame_{tag}", self.path, ndim=2, kinds="if")
        if not has_channels:
            raise DataError(
                "the frame has no list of channels",
                code="corrupt",
                file=self.path,
                where=f"{group.name}/channels_{tag}",
            )
        channels = read_all(group, f"channels_{tag}", self.path, max_size=MAX_CHANNELS, kinds="i")
        tickinfo = read_all(group, f"tickinfo_{tag}", self.path, max_size=3)
        if len(tickinfo) != 3 or not np.isfinite(tickinfo).all():
            raise DataError(
                "tickinfo is not three finite numbers",
                code="corrupt",
                file=self.path,
                where=f"{group.name}/tickinfo_{tag}",
                found=tickinfo.tolist(),
            )
        check_frame(
            frame.shape, len(channels), tickinfo[2], self.detector, self.options.ticks_per_bin, frame.name
        )
        channels = as_integers(channels, np.int32, f"{group.name}/channels_{tag}")
        first_row = frames.begin_frame(channels, frame.shape[1], int(tickinfo[2]))
        chunk_rows = frame.chunks[0] if frame.chunks else 1
        row_bytes = max(frame.shape[1] * frame.dtype.itemsize, 1)
        rows = max(BLOCK_BYTES // (row_bytes * chunk_rows), 1) * chunk_rows
        if labels is not None and labels.shape != frame.shape:
            log.warning("%s: %s has other bins than frame_%s: no truth", self.path, labels.name, tag)
            labels = None
        for start in range(0, frame.shape[0], rows):
            part = slice(start, start + rows)
            block = read_slice(frame, part, self.path)
            classes = None if labels is None else _classes(read_slice(labels, part, self.path))
            frames.builder.add_block(block, first_row + start, int(tickinfo[2]), classes)


def _classes(labels: NDArray[np.integer]) -> NDArray[np.int8]:
    """Turn labels of Wire-Cell into indices of :attr:`HitTruth.LABELS`; what is not known becomes unknown."""
    return _CLASS_OF_LABEL[np.where((labels >= 0) & (labels < 256), labels, 255)]
