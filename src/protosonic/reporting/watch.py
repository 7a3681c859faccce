"""A campaign that is watched: its state again and again until no run works on it."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from protosonic.campaign.state import read_state
from protosonic.reporting.metrics import write_metrics
from protosonic.reporting.state import print_state, state_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from protosonic.campaign.layout import Layout
    from protosonic.campaign.state import CampaignState

__all__ = ["watch_campaign"]

MOST_BUSY = 0.1
"""Share of the time that reading may take: a campaign can have ten thousand statuses, on a shared file system."""
MOST_FAILURES = 3
BAR_WIDTH = 60


def watch_campaign(layout: Layout, *, failed: bool, interval_s: float, metrics: Path | None = None) -> None:
    """Show the state of a campaign until no run works on it: in place on a terminal, else a line whenever it changes.

    Parameters
    ----------
    layout
        The campaign.
    failed
        List each failure at the end.
    interval_s
        Seconds between looks; more where a look takes long.
    metrics
        File for Prometheus that is written at each look.

    Raises
    ------
    ConfigError, ResourceError
        As those of :func:`protosonic.reporting.metrics.write_metrics`.
    """
    console = Console(highlight=False)
    looks = _looks(layout, interval_s, metrics)
    state = None
    with suppress(KeyboardInterrupt):  # the way to end it early
        if console.is_terminal:
            with Live(console=console, auto_refresh=False, transient=True) as live:
                for state in looks:
                    live.update(_picture(state), refresh=True)
        else:
            said = ""
            for state in looks:
                line = _line(state)
                if line != said:
                    console.print(line, soft_wrap=True, markup=False)
                    said = line
    print_state(state or read_state(layout), failed=failed)


def _looks(layout: Layout, interval_s: float, metrics: Path | None) -> Iterator[CampaignState]:
    """Read the state until no run works on the campaign; the last one is after its end."""
    while True:
        begin = time.monotonic()
        state = read_state(layout)
        if metrics is not None:
            write_metrics(state, metrics)
        yield state
        if state.running_on is None:
            return
        time.sleep(max(interval_s, (time.monotonic() - begin) * (1 / MOST_BUSY - 1)))


def _picture(state: CampaignState) -> Group:
    lines = [Text.from_markup(line) for line in state_lines(state)]
    shown: list[Text | ProgressBar] = [*lines]
    if state.partitions:
        counts = state.partitions
        ended = counts["planned"] - counts["missing"]
        shown.insert(1, ProgressBar(max(counts["planned"], 1), ended, width=BAR_WIDTH))
    for problem in state.problems[-MOST_FAILURES:]:
        where = problem.partition or problem.stage
        shown.append(
            Text(
                f"{where} {problem.stage}: {problem.error}: {problem.message}",
                style="yellow",
                no_wrap=True,
                overflow="ellipsis",
            )
        )
    return Group(*shown)


def _line(state: CampaignState) -> str:
    """Say the same in one line; numbers that change all the time are left out."""
    if not state.partitions:
        return f"{state.campaign}: {state.state}"
    counts = state.partitions
    return (
        f"{state.campaign}: {state.state}, {counts['done']:,} of {counts['planned']:,} partitions done, "
        f"{counts['failed']:,} failed for good, {state.hits['done']:,} hits"
    )
