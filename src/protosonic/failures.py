"""From exceptions to messages, exit codes and the records that failed jobs leave for the run that started them."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from protosonic.errors import (
    INTERRUPTED,
    ConfigError,
    ProtosonicError,
    ResourceError,
    classify_os_error,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import typer

__all__ = ["INTERNAL_ERROR", "Failure", "guarded", "read_failures", "translated"]

log = logging.getLogger(__name__)

INTERNAL_ERROR = 1
"""Exit code of an exception that nobody expected."""
_WRONG_PLACE = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
}
"""What a path on the command line or in the configuration can be wrong with, where nothing said so before."""


_NO_MEMORY = re.compile(r"std::bad_alloc|[Ff]ailed to allocate memory")
"""What C++ libraries such as ONNX Runtime say in an exception of another class."""
_ERRNO_OF_HDF5 = re.compile(r"\berrno = ([0-9]+)\b")


class Failure(NamedTuple):
    """What a failed job left behind."""

    command: str
    exit_code: int
    error: str
    message: str


def guarded(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run the command line.

    Returns
    -------
    The exit code. With ``--failures FOLDER`` among the arguments a failure is also recorded there, and the record of
    an earlier failure of the same command is removed when it succeeds.
    """
    import typer.main

    folder = _failures_folder(arguments)
    try:
        typer.main.get_command(app)(list(arguments), prog_name="protosonic")
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  (everything that is not ours is reported as an internal error)
        return _report(error, folder, arguments)
    if code == 0 and folder is not None:
        _record_path(folder, arguments).unlink(missing_ok=True)
    return code


def read_failures(folder: Path, since: float) -> list[Failure]:
    """Read the records of jobs that failed after a time (seconds since the epoch)."""
    failures = []
    for path in sorted(folder.glob("*.json")):
        if path.stat().st_mtime >= since:
            try:
                failures.append(Failure(**json.loads(path.read_text(encoding="utf-8"))))
            except (ValueError, TypeError):
                continue
    return failures


def _report(error: Exception, folder: Path | None, arguments: Sequence[str]) -> int:
    known = translated(error)
    if known is None:
        traceback.print_exception(error)
        message = f"internal error: {type(error).__name__}: {error}"
        code, name = INTERNAL_ERROR, type(error).__name__
    else:
        log.debug("raised here", exc_info=error)
        message, code, name = str(known), known.exit_code, type(known).__name__
    print(f"error: {message}", file=sys.stderr)  # noqa: T201
    if folder is not None:
        failure = Failure(" ".join(_without_options(arguments)), code, name, message)
        try:
            from protosonic.publish import publish_json

            publish_json(_record_path(folder, arguments), failure._asdict())
        except OSError as problem:
            log.warning("the failure could not be recorded: %s", problem)
    return code


def translated(error: Exception) -> ProtosonicError | None:
    """Give the error of ours that an exception means; ``None`` for one that nobody expected."""
    if isinstance(error, ProtosonicError):
        return error
    if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
        return ResourceError("out of memory", hint="Give the job more memory, or lower partition.max_mem_mb")
    if isinstance(error, OSError):
        return classify_os_error(error) or _wrong_place(error) or _told_by_hdf5(error)
    return None


def _told_by_hdf5(error: OSError) -> ProtosonicError | None:
    """Find the errno that HDF5 puts into its message only, and that says whether a retry helps."""
    found = _ERRNO_OF_HDF5.search(str(error))
    if error.errno is not None or found is None:
        return None
    number = int(found[1])
    return classify_os_error(OSError(number, os.strerror(number)))


def _wrong_place(error: OSError) -> ConfigError | None:
    if error.errno not in _WRONG_PLACE:
        return None
    # A rename has two names; the second is the one that was asked for.
    name = error.filename2 or error.filename
    file = os.fsdecode(name) if isinstance(name, str | bytes) else None
    return ConfigError(error.strerror or str(error), file=file, hint="Choose another path")


def _failures_folder(arguments: Sequence[str]) -> Path | None:
    return Path(arguments[1]) if len(arguments) > 1 and arguments[0] == "--failures" else None


def _without_options(arguments: Sequence[str]) -> list[str]:
    return list(arguments[2:]) if _failures_folder(arguments) else list(arguments)


def _record_path(folder: Path, arguments: Sequence[str]) -> Path:
    text = "\0".join(_without_options(arguments))
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
