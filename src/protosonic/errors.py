"""The error tree and the exit codes.

Two kinds of problem are kept apart. A *data problem* (:class:`DataError`) belongs to one file or event: a campaign
records it, quarantines the event and goes on. Every other error stops the job with the exit code of its class, so that
whoever started the job knows whether trying again can help.
"""

from __future__ import annotations

import errno
import os
from typing import ClassVar

__all__ = [
    "INTERRUPTED",
    "AcceptanceError",
    "ConfigError",
    "DataError",
    "IncompleteError",
    "ModelError",
    "PilotError",
    "ProtosonicError",
    "ResourceError",
    "ServiceError",
    "TransientError",
    "VerificationError",
    "WorkflowError",
    "classify_os_error",
    "exit_codes",
]

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells give it, and of a run after SIGTERM."""


class ProtosonicError(Exception):
    """Base of all errors that protosonic raises on purpose.

    Parameters
    ----------
    message
        What is wrong, in one sentence.
    file
        The file concerned: a path, a URL, or what else names it as text.
    where
        The configuration key, HDF5 dataset, archive member or event concerned.
    expected, found
        What was expected and what was found instead.
    hint
        What to do about it.
    """

    exit_code: ClassVar[int] = 1
    retry_helps: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        file: object = None,
        where: str | None = None,
        expected: object = None,
        found: object = None,
        hint: str | None = None,
    ) -> None:
        self.message = message
        self.file = str(file) if file is not None else None
        self.where = where
        self.expected = expected
        self.found = found
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        place = ": ".join(part for part in (self.file, self.where) if part)
        facts = [f"expected {self.expected}"] if self.expected is not None else []
        facts += [f"found {self.found}"] if self.found is not None else []
        text = f"{place}: {self.message}" if place else self.message
        if facts:
            text += f" ({', '.join(facts)})"
        if self.hint:
            text += f". {self.hint}"
        return text


class ConfigError(ProtosonicError):
    """The configuration or the command line is wrong; nothing was started."""

    exit_code = 2


class DataError(ProtosonicError):
    """A file or an event cannot be used; a campaign quarantines it under its code."""

    exit_code = 3

    def __init__(
        self,
        message: str,
        *,
        code: str,
        file: object = None,
        where: str | None = None,
        expected: object = None,
        found: object = None,
        hint: str | None = None,
    ) -> None:
        self.code = code
        super().__init__(message, file=file, where=where, expected=expected, found=found, hint=hint)

    @property
    def reason(self) -> str:
        """The text that accounting keeps: the code, then what happened (the file has its own column)."""
        file, self.file = self.file, None
        try:
            return f"{self.code}: {self}"
        finally:
            self.file = file


class ModelError(ProtosonicError):
    """The model file does not meet the model contract, or gave unusable scores."""

    exit_code = 4


class AcceptanceError(ProtosonicError):
    """The campaign is complete, but more events are quarantined than the configuration accepts."""

    exit_code = 5


class VerificationError(ProtosonicError):
    """A finished dataset is not what its records say."""

    exit_code = 6


class WorkflowError(ProtosonicError):
    """Snakemake failed without any protosonic job saying why."""

    exit_code = 7


class IncompleteError(ProtosonicError):
    """Partitions failed in a way that no retry mends, so there is no complete dataset."""

    exit_code = 8


class PilotError(ProtosonicError):
    """Too many events of the pilot are not done, so the rest of the campaign was not started."""

    exit_code = 9


class TransientError(ProtosonicError):
    """The file system or the network failed in a way that usually passes."""

    exit_code = 10
    retry_helps = True


class ServiceError(ProtosonicError):
    """No inference endpoint could serve, and the policy forbids the CPU."""

    exit_code = 11
    retry_helps = True


class ResourceError(ProtosonicError):
    """Disk or memory is exhausted."""

    exit_code = 12
    retry_helps = True


_RESOURCE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EFBIG, errno.EMFILE, errno.ENFILE}
_TRANSIENT_ERRNOS = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENOENT,
    errno.EBUSY,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EREMOTEIO,
}


def classify_os_error(error: OSError) -> ProtosonicError | None:
    """Translate an operating-system error into the error class that says whether a retry helps.

    Returns
    -------
    A :class:`ResourceError`, a :class:`TransientError`, or ``None`` where the errno says neither (libraries such as
    h5py raise :class:`OSError` without an errno for a corrupt file).
    """
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else None
    if error.errno in _RESOURCE_ERRNOS:
        return ResourceError(
            error.strerror or str(error),
            file=name,
            hint="Free disk space or memory and run the same command again",
        )
    if error.errno in _TRANSIENT_ERRNOS:
        return TransientError(error.strerror or str(error), file=name, hint="Run the same command again")
    return None


def exit_codes() -> dict[int, str]:
    """Give every exit code with its meaning, for the documentation and the tests."""
    codes = {0: "Done.", INTERRUPTED: "Interrupted: Ctrl-C, or SIGTERM to a run."}
    classes = [ProtosonicError]
    while classes:
        cls = classes.pop(0)
        classes.extend(cls.__subclasses__())
        meaning = (
            "An error in protosonic itself; please report it."
            if cls is ProtosonicError
            else cls.__doc__ or ""
        )
        codes[cls.exit_code] = meaning.splitlines()[0]
    return dict(sorted(codes.items()))
