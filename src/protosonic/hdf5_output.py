"""Writing HDF5 files that are complete or not there, also when the disk is full."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import h5py

from protosonic.publish import publish

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["publish_hdf5"]


class _PatientFile(io.RawIOBase):
    """A file that keeps a failure to write for later.

    The HDF5 library cannot cope with a failing disk: errors while it closes things are lost, and it may crash. It is
    told that all went well, and the failure is raised when it is no longer in the way.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self.failure: OSError | None = None

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        count: int = self._file.readinto(buffer)
        return count

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        written = 0
        while self.failure is None and written < len(view):
            try:
                written += self._file.write(view[written:])
            except OSError as error:
                self.failure = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        if self.failure is None:
            try:
                return self._file.truncate(size)
            except OSError as error:
                self.failure = error
        return size or 0

    def close(self) -> None:
        self._file.close()
        super().close()

    def check(self) -> None:
        if self.failure is not None:
            raise self.failure


@contextmanager
def publish_hdf5(target: Path, **options: Any) -> Iterator[h5py.File]:
    """Write an HDF5 file so that it appears complete or not at all.

    Parameters
    ----------
    target
        The final path.
    options
        For :class:`h5py.File`.

    Yields
    ------
    The open file. When the block ends normally it is closed and published; when it raises, nothing stays.

    Raises
    ------
    OSError
        The disk is full, or failed.
    """
    with publish(target) as part, _PatientFile(part) as raw:
        with h5py.File(raw, "w", **options) as file:
            yield file
        raw.check()
