"""What a campaign came to, in sentences: what is done, what failed and why, and what limited it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from protosonic.reporting.course import stage_uses

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from protosonic.reporting.course import Course

__all__ = ["FileFailure", "ReasonGroup", "failed_files", "limits", "outcome", "reason_groups"]

MOSTLY = 0.5
BUSY_CORES = 0.7
WAITING = 2.0
"""A request that takes so many times what the server needs for it waits elsewhere."""


class ReasonGroup(NamedTuple):
    """Quarantined events with the same code."""

    code: str
    events: int
    files: int
    hits: int
    example: str


class FileFailure(NamedTuple):
    """Events of a file that are quarantined for the same reason; of an unreadable file their number is not known."""

    file: str
    reason: str
    events: int | None
    hits: int


def outcome(totals: Mapping[str, Any], acceptance: Mapping[str, Any]) -> str:
    """Say how many of the planned events are done, and whether that is enough."""
    planned, done, lost = (totals[f"events_{name}"] for name in ("planned", "done", "quarantined"))
    hits = f"{totals['hits_done']:,} hits are classified"
    if not lost:
        return f"All {planned:,} planned events are done; {hits}."
    verdict = "which is accepted" if acceptance["accepted"] else "which is not accepted"
    return (
        f"{done:,} of {planned:,} planned events are done, {lost:,} are quarantined "
        f"({totals['quarantined_fraction']:.2%}, {verdict}: at most {acceptance['max_quarantined_fraction']:.2%}); {hits}."
    )


def reason_groups(rows: Iterable[Mapping[str, Any]]) -> list[ReasonGroup]:
    """Group rows of the accounting that are quarantined by the code of their reason; most events first."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["reason"].partition(":")[0]].append(row)
    found = [
        ReasonGroup(
            code=code,
            events=len(members),
            files=len({row["file"] for row in members}),
            hits=sum(row["hits_planned"] for row in members),
            example=members[0]["reason"],
        )
        for code, members in groups.items()
    ]
    return sorted(found, key=lambda group: (-group.events, group.code))


def failed_files(rows: Iterable[Mapping[str, Any]]) -> list[FileFailure]:
    """Group the same rows by file and reason; files with most events first."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["file"], row["reason"]].append(row)
    found = [
        FileFailure(
            file=file,
            reason=reason,
            events=None if members[0]["entry"] is None else len(members),
            hits=sum(row["hits_planned"] for row in members),
        )
        for (file, reason), members in groups.items()
    ]
    return sorted(found, key=lambda failure: (-(failure.events or 0), failure.file))


def limits(campaign: Mapping[str, Any], course: Course) -> list[str]:
    """Say what the time of a campaign went to, and what kept it from being faster; nothing where that is not known."""
    said = []
    uses = {use.stage: use for use in stage_uses(course.jobs)}
    wall_s = sum(use.wall_s for use in uses.values())
    if wall_s:
        begin, end = course.span
        largest = max(uses.values(), key=lambda use: use.wall_s)
        said.append(
            f"Jobs ran for {wall_s:,.0f} s in {end - begin:,.0f} s, {wall_s / max(end - begin, 1e-9):.1f} at a time on average; "
            f"{largest.wall_s / wall_s:.0%} of their time went into {largest.stage}."
        )
    hits = campaign["totals"]["hits_by_backend"]
    on_cpu, total = hits.get("onnxruntime", 0), sum(hits.values())
    endpoints = [endpoint for endpoint in campaign["dispatch"]["endpoints"] if endpoint["answers"]]
    if total and on_cpu > MOSTLY * total:
        said.append(
            _limit_of_cpu(campaign, on_cpu / total, uses["infer"].cores_used if "infer" in uses else None)
        )
    said += [_limit_of_endpoint(endpoint) for endpoint in endpoints]
    return said


def _limit_of_cpu(campaign: Mapping[str, Any], share: float, cores_used: float | None) -> str:
    busy = (
        ""
        if cores_used is None
        else f" Its jobs kept {cores_used:.0%} of the cores busy that they asked for."
    )
    if campaign["provenance"]["settings"]["inference"]["policy"] == "cpu-only":
        return f"The CPU scored everything, as configured: more cores, or an endpoint, would make it faster.{busy}"
    return (
        f"{share:.0%} of the hits were scored on the CPU because endpoints did not serve: see the fallbacks below. "
        f"An endpoint that serves would make it faster.{busy}"
    )


def _limit_of_endpoint(endpoint: Mapping[str, Any]) -> str:
    name, latency_ms = endpoint["endpoint"], 1e3 * endpoint["latency_s"].get("p50", 0.0)
    queue_ms, compute_ms = endpoint["server_queue_ms"], endpoint["server_compute_ms"]
    refused = endpoint["retries"].get("overload", 0)
    if refused > 0.05 * endpoint["requests"]:
        return f"{name} refused {refused:,} of {endpoint['requests']:,} requests as overloaded: it was the limit, and more clients would not help."
    if queue_ms is None or compute_ms is None:
        return f"{name} answered in {latency_ms:,.0f} ms (median); it did not say how long it computed."
    at_server_ms = queue_ms + compute_ms
    if queue_ms > compute_ms:
        return (
            f"{name} was the limit: a request waited {queue_ms:,.1f} ms there for {compute_ms:,.1f} ms of computing. "
            f"More GPUs or instances would make it faster; more clients would not."
        )
    if latency_ms > WAITING * at_server_ms:
        return (
            f"{name} was not the limit: of {latency_ms:,.0f} ms a request (median) it worked {at_server_ms:,.1f} ms; the rest was "
            f"the network and other requests of the same client. More clients, or a nearer endpoint, would make it faster."
        )
    return (
        f"{name} had little to spare: it computed for {compute_ms:,.1f} ms on average, after {queue_ms:,.1f} ms in its queue, "
        f"of the {latency_ms:,.0f} ms that a request took (median)."
    )
