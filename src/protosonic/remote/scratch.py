"""The copy of a remote file on the disk of this machine."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import tempfile
import time
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from protosonic.errors import ResourceError, classify_os_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from protosonic.remote.protocol import RemoteStatus

__all__ = ["Origin", "ScratchCopy", "scratch_file"]

Origin = tuple[str, int, int, str]
"""URL, size, time and ETag: a transfer that broke off goes on only where these are as they were."""


_PREFIX, _SUFFIX = "protosonic-", ".scratch"
_AGE_S = 60.0


@contextmanager
def scratch_file() -> Iterator[IO[bytes]]:
    """Make a file in the scratch folder, and remove it and those that killed jobs have left there.

    HDF5 cannot open a file that has no name, so it cannot be removed beforehand.
    """
    _remove_leftovers(Path(tempfile.gettempdir()))
    with tempfile.NamedTemporaryFile(prefix=_PREFIX, suffix=_SUFFIX) as file:
        with suppress(OSError):  # a file system without locks has no leftovers removed
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _remove_leftovers(folder: Path) -> None:
    """Remove scratch files that nobody holds a lock on; the youngest may not have got theirs yet."""
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _AGE_S:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()


class ScratchCopy:
    """The part of a file that has come so far."""

    def __init__(self, scratch: IO[bytes]) -> None:
        self._scratch = scratch
        self.source: Origin | None = None
        self.restart(None, 0)

    def restart(self, source: Origin | None, expected: int) -> None:
        """Begin anew."""
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if expected > free:
            raise ResourceError(
                "the scratch folder has no room for the file",
                file=tempfile.gettempdir(),
                expected=f"{expected} bytes",
                found=f"{free} bytes free",
                hint="TMPDIR names the scratch folder; or set remote.fetch to stream",
            )
        self.source = source
        self._scratch.seek(0)
        self._scratch.truncate()
        self.size, self.sha256, self.adler32 = 0, hashlib.sha256(), 1

    def append(self, chunk: bytes) -> None:
        """Add what has come."""
        try:
            self._scratch.write(chunk)
        except OSError as error:
            raise classify_os_error(error) or error from error
        self.size += len(chunk)
        self.sha256.update(chunk)
        self.adler32 = zlib.adler32(chunk, self.adler32)

    def problem(self, status: RemoteStatus) -> tuple[str, str, str] | None:
        """Say what is wrong with the whole: message, expected, found."""
        if status.size >= 0 and self.size != status.size:
            return "the file did not come whole", f"{status.size} bytes", f"{self.size}"
        if status.adler32 and status.adler32 != f"{self.adler32:08x}":
            return "the copy has another checksum", f"adler32 {status.adler32}", f"{self.adler32:08x}"
        return None

    def path(self) -> Path:
        """Where the copy can be opened by other libraries."""
        try:
            self._scratch.flush()
        except OSError as error:
            raise classify_os_error(error) or error from error
        return Path(self._scratch.name)
