"""Output on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from protosonic.campaign.provenance import read_campaign
from protosonic.errors import VerificationError
from protosonic.events.formats import identify, open_events

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from protosonic.campaign.layout import Layout
    from protosonic.events.reader import ReaderOptions

__all__ = ["UNTRAINED_WARNING", "print_inspection", "print_summary", "print_verification"]

UNTRAINED_WARNING = "The bundled model is untrained: its weights are random and the scores mean nothing."

MOST_PROBLEMS = 50
MOST_FALLBACKS = 3


def print_inspection(path: Path, options: ReaderOptions) -> None:
    """Print what a file is and what it holds.

    Raises
    ------
    DataError
        The file cannot be used.
    ConfigError
        An option is needed for its format.
    """
    console = Console()
    # A name that is cut or broken into lines could not be copied.
    console.print(f"[bold]{escape(str(path))}[/bold]: {identify(path)}", soft_wrap=True)
    with open_events(path, options) as file:
        console.print(f"detector {file.detector.name}")
        table = Table("entry", "run", "subrun", "event", "hits U", "hits V", "hits W", "remark")
        reasons: dict[str, None] = {}
        for summary in file.summaries():
            counts = (*map(str, summary.hits_by_plane), "", "", "")[:3]
            remark = summary.error.code if summary.error else ""
            table.add_row(str(summary.entry), *map(str, summary.id), *counts, remark)
            if summary.error:
                reasons[summary.error.reason] = None
    console.print(table)
    for reason in reasons:
        console.print(escape(reason), soft_wrap=True)


def print_summary(layout: Layout, seconds: float | None) -> None:
    """Print how a campaign ended: events, hits, rate, backends and where everything lies.

    Parameters
    ----------
    layout
        The campaign.
    seconds
        Wall time of the run; ``None`` when the campaign was complete before.
    """
    campaign = read_campaign(layout)
    totals = campaign["totals"]
    hits = totals["hits_done"]
    shares = ", ".join(
        f"{name} {count / hits:.1%}" for name, count in totals["hits_by_backend"].items() if count
    )
    console = Console(highlight=False)
    rows = {"events": f"{totals['events_done']} done, {totals['events_quarantined']} quarantined"}
    rates = [f"{hits:,} in {seconds:.1f} s, {hits / seconds:,.0f} hits/s"] if seconds else [f"{hits:,}"]
    if campaign["inference_seconds"]:
        rates.append(f"{hits / campaign['inference_seconds']:,.0f} hits/s in the infer stage")
    rows["hits"] = "; ".join(rates)
    rows["backends"] = shares or "none"
    if given_up := campaign.get("failed_partitions"):
        rows["closed"] = f"{len(given_up)} partitions were given up; protosonic status --failed lists them"
    rows["dataset"] = escape(str(layout.hits))
    rows["report"] = escape(str(layout.report))
    console.print()
    for name, text in rows.items():
        console.print(f"{name:<9} {text}", soft_wrap=True)
    reasons = campaign["fallbacks"]
    for reason in reasons[:MOST_FALLBACKS]:
        console.print(f"[yellow]fallback[/yellow] {escape(reason)}", soft_wrap=True)
    if len(reasons) > MOST_FALLBACKS:
        console.print(f"… and {len(reasons) - MOST_FALLBACKS} more: the report sums them up")
    if campaign["provenance"]["model"]["untrained"]:
        console.print(f"[yellow]{UNTRAINED_WARNING}[/yellow]", soft_wrap=True)


def print_verification(layout: Layout, problems: Sequence[str]) -> None:
    """Print the outcome of a verification.

    Raises
    ------
    VerificationError
        There are problems.
    """
    for problem in problems[:MOST_PROBLEMS]:
        print(problem)  # noqa: T201
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise VerificationError(count, file=layout.results)
    totals = read_campaign(layout)["totals"]
    print(  # noqa: T201
        f"{layout.results}: verified: {totals['events_planned']} planned = {totals['events_done']} done + "
        f"{totals['events_quarantined']} quarantined; each of {totals['hits_done']} hits is there once"
    )
