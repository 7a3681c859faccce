"""Jobs that failed and whose work is not done: class, message, the end of the log, and how to do it again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from protosonic.errors import IncompleteError, TransientError
from protosonic.failures import read_failures

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from protosonic.campaign.layout import Layout
    from protosonic.failures import Failure

__all__ = ["Problem", "failed_for_good", "lost_jobs"]

_PARTITION_OF_COMMAND = re.compile(r"/(?:status|partitions)/([0-9a-f]{16})\.json")
_STAGES = ("infer", "preprocess")
LOG_LINES = 3
LOG_BYTES = 4096


@dataclass(frozen=True)
class Problem:
    """A job that failed and whose work is not done.

    Attributes
    ----------
    stage
        Name of its command, such as ``infer``.
    partition, file
        The partition and its input file; ``None`` for a job of the whole campaign.
    error, exit_code, message
        Class of the error and what it said.
    permanent
        Whether trying again does not help unless something is mended.
    log, log_lines
        Log of the job, below the working directory, and its last lines.
    rerun
        The command that does the partition again.
    """

    stage: str
    partition: str | None
    file: str | None
    error: str
    exit_code: int | None
    message: str
    permanent: bool
    log: str | None
    log_lines: tuple[str, ...]
    rerun: str


def failed_for_good(
    layout: Layout, statuses: Mapping[str, dict[str, Any]], failed: set[str]
) -> Iterator[Problem]:
    """Give the problems of partitions whose status says that they failed."""
    for name in sorted(failed):
        failure = statuses[name]["failure"]
        log, lines = _last_lines(layout, failure["stage"], name)
        yield Problem(
            stage=failure["stage"],
            partition=name,
            file=statuses[name]["path"],
            error=failure["error"],
            exit_code=failure["exit_code"],
            message=failure["message"],
            permanent=not failure["recoverable"],
            log=log,
            log_lines=lines,
            rerun=_rerun(layout, name),
        )


def lost_jobs(
    layout: Layout, paths: Mapping[str, str], missing: list[str], host: str | None
) -> Iterator[Problem]:
    """Give the problems of what is not done: those that jobs recorded, and jobs that ended without a word.

    Parameters
    ----------
    layout
        The campaign.
    paths
        Input file of each planned partition.
    missing
        Partitions without a status.
    host
        Where a run works on the campaign; ``None`` where none does.
    """
    lost = set(missing)
    explained = set()
    for failure in read_failures(layout.failures, 0):
        if failure.error == IncompleteError.__name__:
            continue  # the partitions that it counts are listed
        found = _PARTITION_OF_COMMAND.search(failure.command)
        partition = found[1] if found else None
        if partition is not None and partition not in lost:
            continue  # done by another job, or no longer planned
        if partition is not None:
            explained.add(partition)
        yield _recorded(layout, failure, partition, paths)
    if host is not None:
        return  # they are under way, as far as one can see
    for stage in _STAGES:
        for name in sorted((_logged(layout, stage) & lost) - explained):
            log, lines = _last_lines(layout, stage, name)
            explained.add(name)
            yield Problem(
                stage=stage,
                partition=name,
                file=paths[name],
                error="WorkflowError",
                exit_code=None,
                message="the job left neither a status nor a message: it was killed, or its run was",
                permanent=False,
                log=log,
                log_lines=lines,
                rerun=_rerun(layout, name),
            )


def _recorded(layout: Layout, failure: Failure, partition: str | None, paths: Mapping[str, str]) -> Problem:
    stage = next((word for word in failure.command.split() if not word.startswith("-")), "")
    log, lines = _last_lines(layout, stage, partition)
    return Problem(
        stage=stage,
        partition=partition,
        file=paths.get(partition) if partition else None,
        error=failure.error,
        exit_code=failure.exit_code,
        message=failure.message,
        permanent=failure.exit_code < TransientError.exit_code,
        log=log,
        log_lines=lines,
        rerun=_rerun(layout, partition),
    )


def _rerun(layout: Layout, partition: str | None) -> str:
    only = "" if partition is None else f" --only {partition}"
    return f"protosonic recover {layout.workdir} --campaign {layout.name}{only}"


def _logged(layout: Layout, stage: str) -> set[str]:
    try:
        return {path.stem for path in (layout.logs / stage).iterdir()}
    except FileNotFoundError:
        return set()


def _last_lines(layout: Layout, stage: str, partition: str | None) -> tuple[str | None, tuple[str, ...]]:
    path = layout.logs / (f"{stage}.log" if partition is None else f"{stage}/{partition}.log")
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - LOG_BYTES, 0))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return None, ()
    shown = str(path.relative_to(layout.workdir))
    return shown, tuple([line for line in lines if line.strip()][-LOG_LINES:])
