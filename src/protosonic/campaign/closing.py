"""``protosonic close``: end a campaign with known failures, every event accounted for; and open it again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from protosonic.campaign.last_run import recorded_run, timestamp
from protosonic.campaign.launch import run_again
from protosonic.campaign.permanent import NEVER_RUN, failed_status
from protosonic.campaign.records import (
    ClosedRecord,
    ModelRecord,
    Partition,
    PartitionFailure,
    PartitionStatus,
    read_record,
    write_record,
)
from protosonic.campaign.recovery import forget_partitions, refuse_running
from protosonic.campaign.state import read_state
from protosonic.errors import ConfigError, WorkflowError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from protosonic.campaign.layout import Layout
    from protosonic.campaign.problems import Problem
    from protosonic.config import Settings

__all__ = ["close_campaign", "reopen_campaign"]

NO_MESSAGE = "no job of the partition was ever started"
CHUNK = 500


def close_campaign(layout: Layout) -> int:
    """Enter every partition that is not done as quarantined, and let the workflow merge and report.

    It can be killed at any time and called again.

    Parameters
    ----------
    layout
        The campaign.

    Returns
    -------
    The exit code of the run that merges: 5 when more events are quarantined than accepted.

    Raises
    ------
    ConfigError
        Nothing was planned yet, or every partition is done.
    TransientError
        A run is working on the campaign.
    """
    recorded_run(layout)
    refuse_running(layout)
    if not layout.plan.exists() or not layout.model.exists():
        raise ConfigError(
            "there is nothing to close: the campaign has no plan or no model yet",
            file=layout.work,
            hint="Run it first; 'protosonic status' says how far it came",
        )
    state = read_state(layout)
    if not state.missing and not state.partitions["failed"]:
        raise ConfigError(
            "every partition is done, so nothing has to be closed",
            file=layout.work,
            hint="'protosonic recover' merges them, where that has not been done",
        )
    return run_again(layout, prepare=_close)


def _close(layout: Layout, settings: Settings) -> None:
    """Write the record of closing, then what the merge needs of each partition; in the working directory."""
    state = read_state(layout)
    problems = {problem.partition: problem for problem in state.problems if problem.partition is not None}
    missing = [name for name in state.missing if layout.descriptor(name).exists()]
    earlier = read_record(layout.closed, ClosedRecord).partitions if layout.closed.exists() else ()
    failed = [name for name in problems if name not in missing]
    write_record(
        layout.closed,
        ClosedRecord(closed=timestamp(), partitions=tuple(sorted({*earlier, *missing, *failed}))),
    )
    model = read_record(layout.model, ModelRecord)
    for name in missing:
        status = failed_status(
            read_record(layout.descriptor(name), Partition),
            _last_failure(problems.get(name)),
            model,
            settings,
            layout.scores(name),
        )
        write_record(layout.status(name), status)
    _forget_unfinished(layout, missing)


def _last_failure(problem: Problem | None) -> PartitionFailure:
    message = NO_MESSAGE
    if problem is not None:
        message = f"{problem.stage}: {problem.error}: {problem.message}"
    return PartitionFailure(
        stage=NEVER_RUN,
        error=problem.error if problem else "None",
        exit_code=(problem.exit_code or 0) if problem else 0,
        message=message,
        recoverable=True,
    )


def _forget_unfinished(layout: Layout, partitions: Sequence[str]) -> None:
    """Take from Snakemake what it knows of outputs that killed jobs left; it would make them again."""
    from protosonic.campaign.launch import snakemake_command

    record = recorded_run(layout)
    files = [str(path(name)) for name in partitions for path in (layout.status, layout.scores)]
    for start in range(0, len(files), CHUNK):
        command = snakemake_command(Path(record.settings), Path(), record.profile, 1, ["--cleanup-metadata"])
        process = subprocess.run(
            [*command, *files[start : start + CHUNK]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if process.returncode:
            print(process.stdout, file=sys.stderr)  # noqa: T201
            raise WorkflowError("snakemake --cleanup-metadata failed", hint="Its messages are above")


def reopen_campaign(layout: Layout, settings: Settings) -> None:  # noqa: ARG001 (as all that prepares a run)
    """Undo the closing: what was never done will be; what failed for good stays so until it is recovered.

    The merged dataset is removed from the working directory, because it is no longer that of the campaign.
    """
    if not layout.closed.exists():
        return
    never_run = []
    for name in read_record(layout.closed, ClosedRecord).partitions:
        if layout.status(name).exists():
            failure = read_record(layout.status(name), PartitionStatus).failure
            if failure is not None and failure.stage == NEVER_RUN:
                never_run.append(name)
    layout.campaign.unlink(missing_ok=True)
    forget_partitions(layout, never_run)
    layout.closed.unlink()
