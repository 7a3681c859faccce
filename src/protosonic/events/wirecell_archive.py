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
import math
import re
import tarfile
import tokenize
import warnings
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np

from protosonic.errors import DataError, classify_os_error
from protosonic.events.reader import MAX_TICKS, as_integers, numberings
from protosonic.events.source import Source, open_binary
from protosonic.events.wirecell_frames import FrameEvent, WireCellFile, check_frame, choose_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from protosonic.events.model import Event
    from protosonic.events.reader import BadEvent, ReaderOptions
    from protosonic.events.source import AnyFile

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
MAX_LIST_BYTES = 16 * 2**20
"""Limit of what belongs to a frame; lists of channels have some 100 kB."""
MAX_OTHER_BYTES = 256 * 2**20
"""Limit of members that are passed over."""
MAX_PADDING_BYTES = 2**30
"""Limit of what may follow the end of the archive; tapes pad it to whole records."""
MAX_KEPT_BYTES = 8 * 2**30
"""What an archive may hold in memory; a ProtoDUNE event has about 50 MB."""
MAX_HEADER_BYTES = 64 * 2**10
"""Limit of what stands between two members: headers and extended headers."""
BLOCK_BYTES = 16 * 2**20
TAR_BLOCK = 512
TAR_ERRORS = (tarfile.TarError, ValueError, OverflowError)
"""What tarfile raises for damaged headers; the latter two come from numbers in extended headers."""
MEMBER = re.compile(r"(frame|channels|tickinfo|summary|chanmask)_(.+)_([0-9]{1,18})\.npy")


def open_inflated(path: AnyFile) -> IO[bytes]:
    """Open a file for reading, decompressed if it is compressed (by content)."""
    with open_binary(path) as file:
        magic = file.read(8)
    for prefix, opener in COMPRESSIONS.items():
        if magic.startswith(prefix):
            # Decompressors close a file that they opened themselves, and no other.
            content = path.content if isinstance(path, Source) else path
            return cast("IO[bytes]", opener(content if isinstance(content, Path) else content(), "rb"))
    return open_binary(path)


class _CountingReader:
    """Passes reads on, counts their bytes up to a limit, and remembers the last ones."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.count = 0
        self.limit = MAX_HEADER_BYTES
        self.tail = b""

    def read(self, size: int = -1) -> bytes:
        if self.count > self.limit:
            raise tarfile.ReadError(f"more than {MAX_HEADER_BYTES} bytes stand between two members")
        data = self._file.read(size)
        self.count += len(data)
        self.tail = (self.tail + data[-TAR_BLOCK:])[-TAR_BLOCK:]
        return data


class _StrictHeader(tarfile.TarInfo):
    """A header whose damage is an error: tarfile takes it for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == TAR_BLOCK and any(buf):  # neither the end of the archive nor that of the file
                raise tarfile.ReadError(str(error)) from error
            raise
        if header.size < 0:
            raise tarfile.ReadError("a member has a negative size")
        return header


@dataclass
class _Member:
    """One NumPy file of the archive, reduced to what is not zero when it is a frame."""

    shape: tuple[int, ...]
    array: NDArray[Any] | None = None
    blocks: list[tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int32]]] = field(default_factory=list)


class WireCellArchiveFile(WireCellFile):
    """A Wire-Cell archive; see the module's description."""

    format: ClassVar[str] = "wirecell-archive"

    def __init__(self, path: AnyFile, options: ReaderOptions) -> None:
        super().__init__(path, options)
        self._inflated = self._kept = 0
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
        self._inflated = self._kept = 0
        try:
            with open_inflated(self.path) as file:
                reader = _CountingReader(file)
                stream = cast("IO[bytes]", reader)
                with tarfile.open(fileobj=stream, mode="r|", tarinfo=_StrictHeader) as archive:
                    for count, info in enumerate(archive):
                        self._check_member(info, count)
                        reader.limit = archive.offset + MAX_HEADER_BYTES
                        self._load_member(archive, info, events)
                    end = archive.offset
                reader.limit = end + MAX_PADDING_BYTES
                while reader.read(BLOCK_BYTES):
                    pass
        except (EOFError, OSError, zlib.error, lzma.LZMAError, *TAR_ERRORS) as error:
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
        if info.size < 0:
            raise self._refusal("a member has a negative size", "corrupt", info.name)
        self._inflated += info.size
        if count >= MAX_MEMBERS or self._inflated > MAX_INFLATED_BYTES:
            raise self._refusal("the archive inflates to more than any campaign file", "hostile", info.name)
        most = MAX_OTHER_BYTES
        if match := MEMBER.fullmatch(info.name):
            most = MAX_TICKS * self._most_channels * 8 if match[1] == "frame" else MAX_LIST_BYTES
        if info.size > most:
            raise self._refusal(
                f"a member of {info.size} bytes is larger than anything of its kind", "hostile", info.name
            )
        if info.name.startswith("/") or ".." in info.name.split("/"):
            raise self._refusal("a member's name leads out of the archive", "hostile", info.name)
        if not (info.isreg() or info.isdir()) or info.issparse():
            raise self._refusal("a member is not a plain file", "hostile", info.name)

    def _read_member(self, stream: IO[bytes], info: tarfile.TarInfo, kind: str) -> _Member:
        try:
            np.lib.format.read_magic(stream)
            with warnings.catch_warnings():
                # NumPy warns of headers that look as if Python 2 had written them, which are as good as others.
                warnings.simplefilter("ignore", UserWarning)
                # Later versions of the header are for arrays that are not read here.
                shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
        except (
            ValueError,
            TypeError,
            SyntaxError,
            tokenize.TokenError,
            RecursionError,
            MemoryError,
        ) as error:
            raise self._refusal(f"a member is not a NumPy file: {error}", "corrupt", info.name) from error
        if dtype.hasobject or dtype.kind not in "if":
            raise self._refusal(f"a member has type {dtype}; only numbers are read", "hostile", info.name)
        n_bytes, there = math.prod(shape) * dtype.itemsize, info.size - stream.tell()
        if n_bytes != there or any(length < 0 for length in shape):
            raise self._refusal(
                f"a member of {there} bytes claims to be of shape {shape}, {dtype}", "corrupt", info.name
            )
        if kind == "frame":
            check_frame(
                shape, shape[0] if shape else 0, 0, self.detector, self.options.ticks_per_bin, info.name
            )
            return self._read_frame(stream, info, shape, dtype, fortran_order)
        self._keep(n_bytes, info.name)
        array = np.frombuffer(stream.read(n_bytes), dtype).reshape(shape, order="F" if fortran_order else "C")
        return _Member(shape, array)

    def _keep(self, n_bytes: int, member: str) -> None:
        self._kept += n_bytes
        if self._kept > MAX_KEPT_BYTES:
            raise self._refusal(
                f"the archive needs more than {MAX_KEPT_BYTES} bytes of memory", "hostile", member
            )

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
            member.blocks.append((values, rows.astype(np.int32), bins.astype(np.int32)))
            self._keep(sum(part.nbytes for part in member.blocks[-1]), info.name)
        return member

    def _event(self, ident: int, members: dict[tuple[str, str], _Member], entry: int) -> Event | BadEvent:
        frames = FrameEvent(ident)
        try:
            for tag in choose_tags([tag for kind, tag in members if kind == "frame"], self.options.tag):
                self._add_frame(frames, members, tag)
            for (kind, tag), mask in members.items():
                if kind == "chanmask" and mask.array is not None and mask.array.ndim == 2 and mask.array.size:
                    frames.bad_channels.append(as_integers(mask.array[:, 0], np.int32, f"chanmask_{tag}"))
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
        numbers = as_integers(channels.array, np.int32, f"channels_{tag}_{frames.ident}.npy")
        first_row = frames.begin_frame(numbers, frame.shape[1], int(first_bin))
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
