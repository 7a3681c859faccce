"""The account of every planned event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from protosonic.dataset.schema import ACCOUNTING_SCHEMA, BACKENDS
from protosonic.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from protosonic.campaign.records import EventStatus, PartitionStatus, Plan
    from protosonic.events.model import EventId

__all__ = ["accounting_table", "check_statuses"]


def check_statuses(plan: Plan, statuses: Iterable[PartitionStatus]) -> None:
    """Check that the statuses are those of the planned partitions and were made in one way.

    Raises
    ------
    VerificationError
        A partition is missing or not planned, an event is given twice, is not fully done or is quarantined without a
        reason, or provenance differs.
    """
    statuses = list(statuses)
    planned = {partition.id: partition for partition in plan.partitions}
    if sorted(planned) != sorted(status.partition for status in statuses):
        raise VerificationError(
            "the statuses are not those of the planned partitions", expected=len(planned), found=len(statuses)
        )
    first = statuses[0] if statuses else None
    seen: set[EventId] = set()
    for status in statuses:
        where = f"partition {status.partition}"
        hits = sum(event.hits_planned for event in status.events)
        if hits != planned[status.partition].hits:
            raise VerificationError(
                "hits were lost", where=where, expected=planned[status.partition].hits, found=hits
            )
        for event in status.events:
            if event.id in seen:
                raise VerificationError(f"{event.id} is given twice", where=where)
            seen.add(event.id)
            _check_event(event, where)
        assert first is not None
        for name in ("model_sha256", "package_version", "profile", "duplicate_patches"):
            if getattr(status, name) != getattr(first, name):
                raise VerificationError(
                    f"partitions differ in {name}",
                    where=where,
                    expected=getattr(first, name),
                    found=getattr(status, name),
                    hint="Run the campaign again; if that does not help, start it in an empty folder",
                )


def _check_event(event: EventStatus, where: str) -> None:
    expected = event.hits_planned if event.state == "done" else 0
    if event.hits_done != expected or sum(event.backends.values()) != expected:
        raise VerificationError(
            f"{event.id} is {event.state} but its hits are not",
            where=where,
            expected=expected,
            found=f"{event.hits_done} done, {event.backends or 'none'} by backend",
        )
    if not event.backends.keys() <= set(BACKENDS):
        raise VerificationError(
            f"{event.id} was scored by a backend that is not known",
            where=where,
            expected=" or ".join(BACKENDS),
            found=", ".join(event.backends),
        )
    if event.state == "quarantined" and not event.reason:
        raise VerificationError(f"{event.id} is quarantined without a reason", where=where)


def accounting_table(plan: Plan, statuses: Iterable[PartitionStatus]) -> pa.Table:
    """Make the accounting: one row per planned event, and one per file that could not be read.

    Rows are sorted by file and entry. Files are named as they are planned: a status may be older than the name.
    """
    paths = {partition.id: partition.path for partition in plan.partitions}
    rows = [*_refused_rows(plan), *_status_rows(statuses, paths)]
    rows.sort(key=lambda row: (row["file"], -1 if row["entry"] is None else row["entry"]))
    return pa.Table.from_pylist(rows, schema=ACCOUNTING_SCHEMA)


def _refused_rows(plan: Plan) -> Iterator[dict[str, Any]]:
    nothing = {
        "hits_done": 0,
        "state": "quarantined",
        "partition": None,
        "endpoints": None,
        "model_versions": None,
        "retries": 0,
        "fallback": None,
    } | {f"hits_{name}": 0 for name in BACKENDS}
    for file in plan.refused_files:
        yield nothing | {
            "file": file.path,
            "file_id": file.file_id,
            "entry": None,
            "run": None,
            "subrun": None,
            "event": None,
            "hits_planned": 0,
            "reason": file.reason,
        }
    for event in plan.refused:
        yield nothing | {
            "file": event.path,
            "file_id": event.file_id,
            "entry": event.entry,
            "run": event.run,
            "subrun": event.subrun,
            "event": event.event,
            "hits_planned": event.hits,
            "reason": event.reason,
        }


def _status_rows(statuses: Iterable[PartitionStatus], paths: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for status in statuses:
        dispatch = _dispatch_columns(status)
        for event in status.events:
            yield (
                dispatch
                | {
                    "file": paths[status.partition],
                    "file_id": status.file_id,
                    "entry": event.entry,
                    "run": event.run,
                    "subrun": event.subrun,
                    "event": event.event,
                    "hits_planned": event.hits_planned,
                    "hits_done": event.hits_done,
                    "state": event.state,
                    "reason": event.reason,
                    "partition": status.partition,
                }
                | {f"hits_{name}": event.backends.get(name, 0) for name in BACKENDS}
            )


def _dispatch_columns(status: PartitionStatus) -> dict[str, Any]:
    """Tell how a partition was scored; its events share their requests, so they share these columns."""
    used = [use for use in status.backends if use.endpoint and use.hits]
    versions = dict.fromkeys(version for use in used for version in use.model_versions)
    return {
        "endpoints": ", ".join(use.endpoint for use in used if use.endpoint) or None,
        "model_versions": ", ".join(versions) or None,
        "retries": sum(sum(use.retries.values()) for use in status.backends),
        "fallback": "; ".join(status.fallbacks) or None,
    }
