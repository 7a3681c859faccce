"""The state of a campaign on the terminal."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from protosonic.campaign.problems import Problem
    from protosonic.campaign.recovery import Recovery
    from protosonic.campaign.state import CampaignState

__all__ = ["duration", "print_recovery", "print_state", "state_json", "state_lines"]

MOST_CAUSES = 10
MOST_LISTED = 20
COLOURS = {
    "running": "cyan",
    "incomplete": "yellow",
    "complete": "green",
    "closed": "green",
    "published": "green",
}


def state_json(state: CampaignState) -> str:
    """Give everything that is known of a campaign as JSON."""
    return json.dumps(dataclasses.asdict(state), indent=2)


def print_state(state: CampaignState, *, failed: bool) -> None:
    """Print where a campaign stands, and with `failed` each job that failed."""
    console = Console(highlight=False)
    for line in state_lines(state):
        console.print(line, soft_wrap=True)
    if failed:
        for problem in state.problems:
            _print_problem(console, problem)
    elif state.problems:
        console.print("'protosonic status --failed' lists each failure, with the end of its log")


def state_lines(state: CampaignState) -> list[str]:
    """Say where a campaign stands, in lines of rich's markup."""
    colour = COLOURS.get(state.state, "bold")
    rows: dict[str, str] = {}
    if state.partitions:
        counts = state.partitions
        rows["partitions"] = (
            f"{counts['planned']:,} planned: {counts['done']:,} done, {counts['failed']:,} failed for good, "
            f"{counts['missing']:,} missing"
        )
    if state.events:
        counts = state.events
        rows["events"] = (
            f"{counts['known']:,} known: {counts['done']:,} done, {counts['quarantined']:,} quarantined"
        )
        rows["hits"] = f"{state.hits['done']:,} of {state.hits['planned']:,}"
    scored = sum(state.backends.values())
    if scored:
        rows["backends"] = ", ".join(
            f"{name} {hits / scored:.1%}" for name, hits in state.backends.items() if hits
        )
    for endpoint, latency in state.latency_s.items():
        text = f"{1e3 * latency['p50']:.0f} ms median, {1e3 * latency['p95']:.0f} ms p95 of {endpoint}"
        rows["latency"] = f"{rows['latency']}; {text}" if "latency" in rows else text
    if state.retries:
        rows["retries"] = ", ".join(f"{count:,} {failure}" for failure, count in state.retries.items())
    if state.quarantined:
        rows["quarantined"] = ", ".join(f"{count:,} {code}" for code, count in state.quarantined.items())
    if state.failures:
        causes = [f"{count:,} {error}" for error, count in list(state.failures.items())[:MOST_CAUSES]]
        rows["failures"] = ", ".join(causes)
    if state.hours_left is not None:
        rows["pace"] = (
            f"{state.partitions_per_hour:,} partitions an hour, {state.hits_per_s:,} hits/s; "
            f"{duration(state.hours_left)} left"
        )
    head = f"[bold]{escape(state.campaign)}[/bold]: [{colour}]{state.state}[/{colour}]{_run_text(state)}"
    return [head, *(f"{name:<11} {escape(text)}" for name, text in rows.items())]


def print_recovery(recovery: Recovery) -> None:
    """Print what a recovery does."""
    console = Console(highlight=False)
    console.print(
        f"{len(recovery.missing):,} partitions are missing, {len(recovery.again):,} that failed for good are tried "
        f"again, {len(recovery.left):,} are left as they are",
        soft_wrap=True,
    )
    _print_names(console, "missing", recovery.missing)
    _print_names(console, "again", [_short(problem) for problem in recovery.again])
    _print_names(console, "left", [_short(problem) for problem in recovery.left])


def _print_names(console: Console, what: str, names: Sequence[str]) -> None:
    for name in names[:MOST_LISTED]:
        console.print(f"{what:<8} {escape(name)}", soft_wrap=True)
    if len(names) > MOST_LISTED:
        console.print(f"… and {len(names) - MOST_LISTED:,} more")


def _short(problem: Problem) -> str:
    return f"{problem.partition} {problem.file}: {problem.stage}: {problem.error}: {problem.message}"


def _print_problem(console: Console, problem: Problem) -> None:
    what = f"{problem.partition} {problem.file}" if problem.partition else problem.stage
    kind = "failed for good" if problem.permanent else "failed"
    console.print()
    console.print(f"[bold]{escape(what)}[/bold] {kind} in {problem.stage}: {problem.error}", soft_wrap=True)
    console.print(f"  {escape(problem.message)}", soft_wrap=True)
    if problem.log:
        console.print(f"  log {escape(problem.log)}", soft_wrap=True)
    for line in problem.log_lines:
        console.print(f"    [dim]{escape(line)}[/dim]", soft_wrap=True)
    console.print(f"  again: {escape(problem.rerun)}", soft_wrap=True)


def _run_text(state: CampaignState) -> str:
    run = state.last_run
    if state.running_on:
        since = f" since {run['started']}" if run else ""
        return f" on {escape(state.running_on)}{since}"
    if run is None:
        return ""
    if run["ended"] is None:
        return f" (the last run, of {run['started']} on {escape(run['host'])}, was killed)"
    return f" (the last run ended at {run['ended']} with exit code {run['exit_code']})"


def duration(hours: float) -> str:
    """Say how long so many hours are."""
    if hours < 1 / 60:
        return "less than a minute"
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"
