"""The state of a campaign, derived from what is on disk: plan, statuses, records of failures, dataset."""

from __future__ import annotations

import json
import os
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from protosonic.campaign.dispatch import latency_of_partitions
from protosonic.campaign.last_run import running_on
from protosonic.campaign.problems import failed_for_good, lost_jobs
from protosonic.campaign.records import Plan, RunRecord, read_record
from protosonic.publish import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from protosonic.campaign.layout import Layout
    from protosonic.campaign.problems import Problem

__all__ = ["CampaignState", "LifeCycle", "read_state", "read_statuses"]

LifeCycle = Literal["draft", "planned", "running", "incomplete", "complete", "closed", "published"]


@dataclass
class CampaignState:
    """Where a campaign stands.

    Attributes
    ----------
    campaign, state
        Its name, and where it is in its life.
    running_on
        Host of the run that works on it.
    last_run
        How and when it was run last.
    partitions
        ``planned``, ``done``, ``failed`` (for good) and ``missing`` (neither).
    events, hits
        Events ``known`` (catalogued), ``done`` and ``quarantined``; hits ``planned`` and ``done``.
    quarantined
        Number of quarantined events by the code of their reason.
    failures
        Number of failed jobs by class of error.
    problems
        Each of them.
    partitions_per_hour, hits_per_s, hours_left
        How fast the run works, and how long it needs at that pace.
    backends
        Hits by what scored them: the URL of an endpoint, or ``onnxruntime``.
    retries
        Requests that were sent again, by class of failure.
    latency_s
        By endpoint the median of a request of the partitions, weighted by their answers, and ``p95`` of the worst one.
    missing
        Names of the partitions that are neither done nor failed for good.
    """

    campaign: str
    state: LifeCycle
    running_on: str | None = None
    last_run: dict[str, Any] | None = None
    partitions: dict[str, int] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    hits: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    partitions_per_hour: float | None = None
    hits_per_s: float | None = None
    backends: dict[str, int] = field(default_factory=dict)
    retries: dict[str, int] = field(default_factory=dict)
    latency_s: dict[str, dict[str, float]] = field(default_factory=dict)
    hours_left: float | None = None
    problems: list[Problem] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def read_state(layout: Layout) -> CampaignState:
    """Read the state of a campaign; this changes nothing, and any machine that sees the files may do it at any time.

    Raises
    ------
    VerificationError
        The plan is damaged or of another version.
    """
    host = running_on(layout)
    last = read_record(layout.last_run, RunRecord) if layout.last_run.exists() else None
    if not layout.plan.exists():
        return _without_plan(layout, host, last)
    plan = read_record(layout.plan, Plan)
    paths = {partition.id: partition.path for partition in plan.partitions}
    statuses, newest = read_statuses(layout, paths)
    failed = {name for name, status in statuses.items() if status.get("state") == "failed"}
    missing = [name for name in paths if name not in statuses]
    codes = Counter(_code(event.reason) for event in plan.refused)
    codes.update(_code(file.reason) for file in plan.refused_files)
    events_done = hits_done = 0
    for name, status in statuses.items():
        hits_done += status["rows"]
        for event in status["events"]:
            if event["state"] == "done":
                events_done += 1
            elif name not in failed or layout.closed.exists():
                codes[_code(event["reason"])] += 1
    problems = [*failed_for_good(layout, statuses, failed), *lost_jobs(layout, paths, missing, host)]
    state = CampaignState(
        campaign=layout.name,
        state=_life_cycle(layout, host, bool(statuses), not missing, newest),
        running_on=host,
        last_run=last.model_dump(exclude={"version"}) if last else None,
        partitions={
            "planned": len(paths),
            "done": len(statuses) - len(failed),
            "failed": len(failed),
            "missing": len(missing),
        },
        events={
            "known": _known_events(layout, plan) + len(plan.refused_files),
            "done": events_done,
            "quarantined": codes.total(),
        },
        hits={"planned": sum(partition.hits for partition in plan.partitions), "done": hits_done},
        quarantined=dict(codes.most_common()),
        failures=dict(Counter(problem.error for problem in problems).most_common()),
        problems=problems,
        missing=missing,
    )
    _add_backends(state, statuses.values())
    _add_pace(state, last, statuses)
    return state


def _without_plan(layout: Layout, host: str | None, last: RunRecord | None) -> CampaignState:
    """Give the state of a campaign before its plan is made, or of a finished one whose ``work/`` was removed."""
    state = CampaignState(
        campaign=layout.name,
        state="running" if host else "draft",
        running_on=host,
        last_run=last.model_dump(exclude={"version"}) if last else None,
        problems=list(lost_jobs(layout, {}, [], host)),
    )
    state.failures = dict(Counter(problem.error for problem in state.problems))
    if layout.campaign.exists():
        content = json.loads(layout.campaign.read_text(encoding="utf-8"))
        totals = content["totals"]
        state.state = "closed" if content.get("failed_partitions") else "complete"
        state.events = {
            "known": totals["events_planned"],
            "done": totals["events_done"],
            "quarantined": totals["events_quarantined"],
        }
        state.hits = {"planned": totals["hits_done"], "done": totals["hits_done"]}
    return state


def _life_cycle(
    layout: Layout, host: str | None, is_started: bool, is_whole: bool, newest: float
) -> LifeCycle:
    if host is not None:
        return "running"
    try:
        merged = layout.campaign.stat().st_mtime
    except FileNotFoundError:
        merged = 0.0
    if is_whole and merged and merged >= max(newest, layout.plan.stat().st_mtime):
        if _is_published(layout):
            return "published"
        return "closed" if layout.closed.exists() else "complete"
    if is_started or layout.failures.is_dir():
        return "incomplete"
    return "planned"


def _is_published(layout: Layout) -> bool:
    try:
        record = json.loads(layout.published.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(record["campaign_sha256"] == sha256_of(layout.campaign))


def read_statuses(layout: Layout, planned: Mapping[str, str]) -> tuple[dict[str, dict[str, Any]], float]:
    """Read the statuses of planned partitions, and when the newest was written.

    They are read as plain JSON: thousands of them are checked by the merge, not here.
    """
    statuses: dict[str, dict[str, Any]] = {}
    newest = 0.0
    try:
        entries = list(os.scandir(layout.status("x").parent))
    except FileNotFoundError:
        return {}, newest
    for entry in entries:
        name, _, ending = entry.name.partition(".")
        if ending == "json" and name in planned:
            try:
                with open(entry.path, "rb") as file:  # noqa: PTH123 (a Path for each of thousands takes longer than the rest)
                    content = json.loads(file.read())
                written = entry.stat().st_mtime
            except (OSError, ValueError):  # removed meanwhile, or damaged: not done
                continue
            statuses[name] = content | {"written": written}
            newest = max(newest, written)
    return statuses, newest


def _known_events(layout: Layout, plan: Plan) -> int:
    known = 0
    for name in plan.catalog:
        try:
            block = json.loads((layout.catalog / name).read_bytes())
        except (OSError, ValueError):
            continue
        known += sum(len(file["events"]) for file in block["files"] if file["reason"] is None)
    return known


def _add_backends(state: CampaignState, statuses: Iterable[Mapping[str, Any]]) -> None:
    hits: Counter[str] = Counter()
    retries: Counter[str] = Counter()
    seen: dict[str, list[tuple[int, dict[str, float]]]] = defaultdict(list)
    for status in statuses:
        for use in status["backends"]:
            name = use["endpoint"] or use["backend"]
            hits[name] += use["hits"]
            retries.update(use["retries"])
            if use["latency_s"]:
                seen[name].append((use["answers"], use["latency_s"]))
    state.backends = dict(sorted(hits.items()))
    state.retries = dict(retries.most_common())
    state.latency_s = {name: latency_of_partitions(found) for name, found in sorted(seen.items())}


def _add_pace(state: CampaignState, last: RunRecord | None, statuses: Mapping[str, dict[str, Any]]) -> None:
    if state.running_on is None or last is None or last.ended is not None:
        return
    started = datetime.fromisoformat(last.started).timestamp()
    rows = [status["rows"] for status in statuses.values() if status["written"] >= started]
    hours = (time.time() - started) / 3600
    if rows and hours > 0:
        state.partitions_per_hour = round(len(rows) / hours, 1)
        state.hits_per_s = round(sum(rows) / hours / 3600, 1)
        state.hours_left = round(len(state.missing) / (len(rows) / hours), 3)


def _code(reason: str | None) -> str:
    return (reason or "").partition(":")[0]
