"""A remote file of which parts are read."""

from __future__ import annotations

import functools
import io
from typing import IO, TYPE_CHECKING, cast

from protosonic.remote.protocol import BLOCK_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["InPlace"]

CACHED_BLOCKS = 16
"""Blocks that are kept in memory."""


class InPlace:
    """A remote file of which parts are read when they are needed; a few blocks are kept.

    Its bytes are not checked as a whole: that would take reading them all.

    Parameters
    ----------
    url
        Where it is.
    size
        In bytes.
    read_at
        Reads so many bytes (second argument) at a place (first argument).
    """

    def __init__(self, url: str, size: int, read_at: Callable[[int, int], bytes]) -> None:
        self.url = url
        self.size = size
        self.bytes_read = 0
        self._read_at = read_at
        self._block = functools.lru_cache(maxsize=CACHED_BLOCKS)(self._read_block)

    def open(self) -> IO[bytes]:
        """Give a file object; all share the kept blocks."""
        return cast("IO[bytes]", io.BufferedReader(_Raw(self), buffer_size=2**16))

    def read_into(self, offset: int, target: memoryview) -> int:
        """Read what one block has of it."""
        number, begin = divmod(offset, BLOCK_BYTES)
        if offset >= self.size:
            return 0
        part = self._block(number)[begin : begin + len(target)]
        target[: len(part)] = part
        return len(part)

    def _read_block(self, number: int) -> bytes:
        offset = number * BLOCK_BYTES
        content = self._read_at(offset, min(BLOCK_BYTES, self.size - offset))
        self.bytes_read += len(content)
        return content


class _Raw(io.RawIOBase):
    def __init__(self, file: InPlace) -> None:
        super().__init__()
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: object) -> int:
        target = memoryview(cast("bytearray", buffer)).cast("B")
        count = self._file.read_into(self._position, target)
        self._position += count
        return count
