"""Reader of Wire-Cell frame archives (``FrameFileSink``): tar, plain or compressed, of NumPy files.

Members are ``frame_<tag>_<ident>.npy`` float32 or int16 [channels, bins] (usually in Fortran order),
``channels_<tag>_<ident>.npy``, ``tickinfo_<tag>_<ident>.npy`` and ``chanmask_<name>_<ident>.npy`` int32 [n, 3]
(channel, first and last tick; other APAs are listed too). Tags may contain underscores. An event is all members of one
ident. Archives are read as a stream: nothing is extracted to disk, nothing is unpickled, and sizes are checked before
anything is inflated.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import tarfile
import zlib
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from protosonic.errors import DataError, classify_os_error
from protosonic.events.reader import MAX_TICKS, numberings
from protosonic.events.wirecell_frames import FrameEvent, WireCellFile, check_frame, choose_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from protosonic.events.model import Event
    from protosonic.events.reader import BadEvent, ReaderOptions

__all__ = ["COMPRESSIONS", "WireCellArchiveFile", "open_inflated"]

COMPRESSIONS: dict[bytes, Callable[..., Any]] = {
    b"BZh": bz2.open,
    b"\x1f\x8b": gzip.open,
    b"\xfd7zXZ\x00": lzma.open,
}
"""First bytes of the compressed forms → the function that opens them."""

MAX_INFLATED_BYTES = 64 * 2**30
"""An archive that inflates to more than this is refused as a decompression bomb."""
MAX_MEMBERS = 1_000_000
MAX_OTHER_BYTES = 256 * 2**20
BLOCK_BYTES = 16 * 2**20
TAR_BLOCK = 512
MEMBER = re.compile(r"(frame|channels|tickinfo|summary|chanmask)_(.+)_(\d+)\.npy")


def open_inflated(path: Path) -> IO[bytes]:
    """Open a file for reading, decompressed if it is compressed (by content)."""
    with path.open("rb") as file:
        magic = file.read(8)
    for prefix, opener in COMPRESSIONS.items():
        if magic.startswith(prefix):
            return cast("IO[bytes]", opener(path, "rb"))
    return path.open("rb")


class _CountingReader:
    """Passes reads on and remembers how many bytes there were and what the last ones are."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.count = 0
        self.tail = b""

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.count += len(data)
        self.tail = (self.tail + data[-TAR_BLOCK:])[-TAR_BLOCK:]
        return data

    def drain(self) -> None:
        while self.read(2**20):
            pass


@dataclass
class _Member:
    """One NumPy file of the archive, reduced to what is not zero when it is a frame."""

    shape: tuple[int, ...]
    array: NDArray[Any] | None = None
    blocks: list[tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=list)


class WireCellArchiveFile(WireCellFile):
    """A Wire-Cell archive; see the module's description."""

    format: ClassVar[str] = "wirecell-archive"

    def __init__(self, path: Path, options: ReaderOptions) -> None:
        super().__init__(path, options)
        self._inflated = 0
        self._most_channels = max(other.n_channels for other in numberings(self.detector))

    def close(self) -> None:
        """Do nothing: the archive is only open while it is read."""

    def read(self, entries: Sequence[int] | None = None) -> Iterator[Event | BadEvent]:
        """Read events; see :meth:`EventFile.read`.

        A damaged archive is refused as a whole: what stands after the damage is unknown.
        """
        events = self._load()
        for entry, ident in enumerate(sorted(events)):
            if entries is None or entry in entries:
                yield self._event(ident, events[ident], entry)

    def _load(self) -> dict[int, dict[tuple[str, str], _Member]]:
        """Read the archive once: ident → (kind, tag) → content."""
        events: dict[int, dict[tuple[str, str], _Member]] = {}
        self._inflated = 0
        try:
            with open_inflated(self.path) as file:
                reader = _CountingReader(file)
                with tarfile.open(fileobj=cast("IO[bytes]", reader), mode="r|") as archive:
                    for count, info in enumerate(archive):
                        self._check_member(info, count)
                        self._load_member(archive, info, events)
                    end = archive.offset
                reader.drain()
        except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            if isinstance(error, OSError) and (classified := classify_os_error(error)):
                raise classified from error
            raise self._damage(error) from error
        # tarfile takes a missing end for the end; an archive that was cut between members would pass.
        if reader.count < end + TAR_BLOCK or any(reader.tail):
            raise self._damage(EOFError("unexpected end: no end-of-archive block"))
        if not any(kind == "frame" for members in events.values() for kind, _ in members):
            raise DataError(
                "the archive holds no Wire-Cell frames",
                code="unsupported-format",
                file=self.path,
                expected="members frame_<tag>_<ident>.npy",
            )
        return events

    def _load_member(
        self,
        archive: tarfile.TarFile,
        info: tarfile.TarInfo,
        events: dict[int, dict[tuple[str, str], _Member]],
    ) -> None:
        match = MEMBER.fullmatch(info.name)
        stream = archive.extractfile(info) if match else None
        if match is None or stream is None:
            return
        kind, tag, ident = match[1], match[2], int(match[3])
        members = events.setdefault(ident, {})
        if (kind, tag) in members:
            raise self._refusal("the archive holds a member twice", "corrupt", info.name)
        is_wanted = kind in {"channels", "tickinfo", "chanmask"} or (
            kind == "frame" and tag.startswith(self.options.tag)
        )
        members[kind, tag] = self._read_member(stream, info, kind) if is_wanted else _Member(shape=())

    def _check_member(self, info: tarfile.TarInfo, count: int) -> None:
        self._inflated += info.size
        if count >= MAX_MEMBERS or self._inflated > MAX_INFLATED_BYTES:
            raise self._refusal("the archive inflates to more than any campaign file", "hostile", info.name)
        most = MAX_TICKS * self._most_channels * 8 if MEMBER.fullmatch(info.name) else MAX_OTHER_BYTES
        if info.size > most:
            raise self._refusal(
                f"a member of {info.size} bytes is larger than anything of its kind", "hostile", info.name
            )
        if info.name.startswith("/") or ".." in info.name.split("/"):
            raise self._refusal("a member's name leads out of the archive", "hostile", info.name)
        if not (info.isreg() or info.isdir()):
            raise self._refusal("a member is not a plain file", "hostile", info.name)

    def _read_member(self, stream: IO[bytes], info: tarfile.TarInfo, kind: str) -> _Member:
        try:
            version = np.lib.format.read_magic(stream)
            header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran_order, dtype = header(stream)
        except ValueError as error:
            raise self._refusal(f"a member is not a NumPy file: {error}", "corrupt", info.name) from error
        if dtype.hasobject or dtype.kind not in "if":
            raise self._refusal(f"a member has type {dtype}; only numbers are read", "hostile", info.name)
        n_bytes = int(np.prod(shape, dtype=np.float64)) * dtype.itemsize
        if n_bytes > info.size:
            raise self._refusal(f"a member of {info.size} bytes claims {n_bytes} bytes", "corrupt", info.name)
        if kind == "frame":
            check_frame(
                shape, shape[0] if shape else 0, 0, self.detector, self.options.ticks_per_bin, info.name
            )
            return self._read_frame(stream, info, shape, dtype, fortran_order)
        data = stream.read(n_bytes)
        array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran_order else "C")
        return _Member(shape, array)

    def _read_frame(
        self,
        stream: IO[bytes],
        info: tarfile.TarInfo,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        fortran: bool,
    ) -> _Member:
        """Read a frame by blocks; the fast axis in the file is channels in Fortran order, else bins."""
        member = _Member(shape)
        slow, fast = (shape[1], shape[0]) if fortran else shape
        step = max(BLOCK_BYTES // max(fast * dtype.itemsize, 1), 1)
        for start in range(0, slow, step):
            count = min(step, slow - start)
            data = stream.read(count * fast * dtype.itemsize)
            if len(data) != count * fast * dtype.itemsize:
                raise self._refusal("a member ends early", "truncated", info.name)
            block = np.frombuffer(data, dtype).reshape(count, fast)
            major, minor = np.nonzero(block)
            values = block[major, minor]
            rows, bins = (minor, major + start) if fortran else (major + start, minor)
            member.blocks.append((values, rows, bins))
        return member

    def _event(self, ident: int, members: dict[tuple[str, str], _Member], entry: int) -> Event | BadEvent:
        frames = FrameEvent(ident)
        try:
            for tag in choose_tags([tag for kind, tag in members if kind == "frame"], self.options.tag):
                self._add_frame(frames, members, tag)
            for (kind, _), mask in members.items():
                if kind == "chanmask" and mask.array is not None and mask.array.ndim == 2:
                    frames.bad_channels.append(mask.array[:, 0].astype(np.int32))
        except DataError as error:
            frames.error = error
        return self.finish(frames, entry)

    def _add_frame(self, frames: FrameEvent, members: dict[tuple[str, str], _Member], tag: str) -> None:
        frame, where = members["frame", tag], f"frame_{tag}_{frames.ident}.npy"
        channels, tickinfo = members.get(("channels", tag)), members.get(("tickinfo", tag))
        if channels is None or channels.array is None or channels.array.ndim != 1:
            raise DataError("the frame has no list of channels", code="corrupt", where=where)
        first_bin = 0.0
        if tickinfo is not None and tickinfo.array is not None and tickinfo.array.shape == (3,):
            first_bin = float(tickinfo.array[2])
        check_frame(
            frame.shape, len(channels.array), first_bin, self.detector, self.options.ticks_per_bin, where
        )
        first_row = frames.begin_frame(channels.array.astype(np.int32), frame.shape[1], int(first_bin))
        for values, rows, bins in frame.blocks:
            frames.builder.add_samples(values, rows + first_row, bins + int(first_bin))

    def _refusal(self, message: str, code: str, member: str) -> DataError:
        return DataError(message, code=code, file=self.path, where=f"member {member!r}")

    def _damage(self, error: Exception) -> DataError:
        truncated = isinstance(error, EOFError) or "end of" in str(error) or "unexpected" in str(error)
        return DataError(
            "the archive is truncated" if truncated else "the archive is damaged",
            code="truncated" if truncated else "corrupt",
            file=self.path,
            found=str(error) or type(error).__name__,
            hint="Transfer the file again or take it from another replica",
        )
