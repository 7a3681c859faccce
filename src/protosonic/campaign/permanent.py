"""Failures of one partition that no retry mends: they are recorded, so that Snakemake does not try them again."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

from protosonic import __version__
from protosonic.campaign.partitioning import selected_hits
from protosonic.campaign.records import EventStatus, PartitionFailure, PartitionStatus
from protosonic.dataset.scores import ScoresWriter
from protosonic.errors import ConfigError, DataError, IncompleteError, VerificationError
from protosonic.failures import INTERNAL_ERROR, translated
from protosonic.images.profiles import load_profile
from protosonic.publish import sha256_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from protosonic.campaign.records import ModelRecord, Partition
    from protosonic.config import Settings

__all__ = ["NEVER_RUN", "check_none_failed", "failed_status", "permanent_failure", "reason_of"]

log = logging.getLogger(__name__)

NEVER_RUN = "close"
"""Stage of the failure of a partition that was not done when its campaign was closed."""
MOST_MESSAGE = 1000
MOST_CAUSES = 5


def permanent_failure(error: Exception, stage: str) -> PartitionFailure | None:
    """Say what an exception means for the partition that a job works on.

    Returns
    -------
    The failure to record, or ``None`` where the exception must end the job: a retry can help, or the configuration is
    wrong, which concerns all partitions.
    """
    known = translated(error)
    if known is not None and (known.retry_helps or isinstance(known, ConfigError)):
        return None
    message = str(known) if known is not None else f"internal error: {type(error).__name__}: {error}"
    log.error("the partition failed for good: %s", message, exc_info=error if known is None else None)
    return PartitionFailure(
        stage=stage,
        error=type(known or error).__name__,
        exit_code=known.exit_code if known is not None else INTERNAL_ERROR,
        message=message[:MOST_MESSAGE],
        # An unexpected error of the operating system or of HDF5 is mostly a damaged unit file.
        recoverable=isinstance(error, VerificationError | OSError),
    )


def failed_status(
    partition: Partition, failure: PartitionFailure, model: ModelRecord, settings: Settings, scores: Path
) -> PartitionStatus:
    """Write an empty scores file for a partition and give the status that says why."""
    footer = {"partition": partition.id, "file_id": partition.file_id, "package_version": __version__}
    with ScoresWriter(scores, footer):
        pass
    planes = settings.preprocess.planes
    return PartitionStatus(
        partition=partition.id,
        path=partition.path,
        file_id=partition.file_id,
        detector=partition.detector,
        state="failed",
        failure=failure,
        events=tuple(
            EventStatus(
                entry=event.entry,
                run=event.run,
                subrun=event.subrun,
                event=event.event,
                hits_planned=selected_hits(event, planes),
                hits_done=0,
                state="quarantined",
                reason=reason_of(failure),
            )
            for event in partition.events
        ),
        scores_sha256=sha256_of(scores),
        rows=0,
        policy=settings.inference.policy,
        model_sha256=model.sha256,
        package_version=__version__,
        profile=load_profile(settings.preprocess.profile).as_dict(),
        duplicate_patches=settings.preprocess.duplicate_patches,
        seconds=0.0,
        backends=(),
    )


def reason_of(failure: PartitionFailure) -> str:
    """Give the reason for which the events of a failed partition are quarantined."""
    if failure.stage == NEVER_RUN:
        return DataError(failure.message, code="not-done").reason
    return DataError(f"{failure.stage}: {failure.error}: {failure.message}", code="job-failed").reason


def check_none_failed(statuses: Sequence[PartitionStatus]) -> None:
    """Check that no partition failed.

    Raises
    ------
    IncompleteError
        Some did.
    """
    failures = [status.failure for status in statuses if status.failure is not None]
    if not failures:
        return
    causes = Counter((failure.stage, failure.error) for failure in failures)
    examples = {(failure.stage, failure.error): failure.message for failure in reversed(failures)}
    named = [
        f"{count} in {stage} with {error} (such as: {examples[stage, error].rstrip('.')})"
        for (stage, error), count in causes.most_common(MOST_CAUSES)
    ]
    if len(causes) > MOST_CAUSES:
        named.append(f"{len(causes) - MOST_CAUSES} other causes")
    raise IncompleteError(
        f"{len(failures)} of {len(statuses)} partitions failed in a way that no retry mends: {'; '.join(named)}",
        hint="'protosonic status --failed' lists them. 'protosonic recover --all' tries them again once the cause is "
        "mended; 'protosonic close' enters their events as quarantined and makes the dataset of all others",
    )
