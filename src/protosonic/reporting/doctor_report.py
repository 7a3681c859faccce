"""The checks of a node on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from protosonic.software.check import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from protosonic.software.check import Check

__all__ = ["print_checks"]

MARKS = {State.OK: "[green]ok[/green]", State.WARN: "[yellow]warn[/yellow]", State.FAIL: "[red]fail[/red]"}


def print_checks(checks: Sequence[Check]) -> None:
    """Print what was found, and how to mend what is not right."""
    console = Console(highlight=False)
    table = Table.grid(padding=(0, 2))
    for check in checks:
        text = escape(check.found)
        if check.mend:
            text += f"\n[dim]→ {escape(check.mend)}[/dim]"
        table.add_row(MARKS[check.state], escape(check.name), text)
    console.print(table)
    counts = [f"{sum(check.state is state for check in checks)} {state}" for state in State]
    console.print(", ".join(counts))
