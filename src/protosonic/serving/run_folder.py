"""The temporary folder of a running server."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["run_folder"]

PREFIX = "protosonic-serve-"


@contextmanager
def run_folder() -> Iterator[Path]:
    """Make a temporary folder; a failure leaves only the log files in it.

    It holds a file that is locked while the folder is used, so that the next server can tell and remove what a killed
    one has left.
    """
    _remove_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    with (folder / "new").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Whoever finds it under this name finds it locked.
        (folder / "new").rename(folder / "lock")
        try:
            yield folder
        except BaseException:
            _clear(folder, keep_logs=True)
            raise
        _clear(folder, keep_logs=False)


def _remove_abandoned() -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/lock"):
        with suppress(OSError), path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path.parent)


def _clear(folder: Path, *, keep_logs: bool) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif not (keep_logs and path.suffix == ".log"):
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
