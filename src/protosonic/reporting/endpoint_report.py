"""The check of an endpoint on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from protosonic.errors import ServiceError

if TYPE_CHECKING:
    from protosonic.serving.endpoint_report import EndpointReport, LoadPoint

__all__ = ["print_endpoint_report", "show_progress"]

MARKS = {True: "[green]ok[/green]", False: "[red]wrong[/red]", None: "[yellow]unknown[/yellow]"}


def show_progress(line: str) -> None:
    """Say what is done now, on a terminal only."""
    console = Console(stderr=True, highlight=False)
    if console.is_terminal:
        console.print(escape(line))


def print_endpoint_report(report: EndpointReport) -> None:
    """Print what was found at an endpoint and what to change.

    Raises
    ------
    ServiceError
        The endpoint cannot serve.
    """
    console = Console(highlight=False)
    steps = Table.grid(padding=(0, 2))
    for step in report.steps:
        steps.add_row(MARKS[step.passed], step.name, escape(step.detail))
    console.print(f"[bold]{escape(str(report.options))}[/bold]")
    console.print(steps)
    if report.load:
        console.print()
        console.print(_load_table(report))
    for line in report.advice:
        console.print(f"[yellow]advice[/yellow] {escape(line)}")
    if not report.can_serve:
        raise ServiceError(report.problem)
    console.print("[green]The endpoint can serve.[/green]")


def _load_table(report: EndpointReport) -> Table:
    title = f"{report.request_patches} patches a request; times in ms; queue and compute are the server's"
    table = Table(title=title, title_justify="left")
    columns = ("in flight", "done", "patches/s", "p50", "p95", "queue", "compute", "failed")
    for name in columns:
        table.add_column(name, justify="right")
    for point in report.load:
        table.add_row(*_row(point))
    return table


def _row(point: LoadPoint) -> list[str]:
    times = [point.p50_s, point.p95_s, point.queue_s, point.compute_s]
    return [
        str(point.concurrency),
        str(point.requests),
        f"{point.patches_per_s:,.0f}",
        *("–" if value is None else f"{value * 1e3:,.1f}" for value in times),
        ", ".join(f"{count} {failure}" for failure, count in point.failures.items()),
    ]
