"""A run while it lasts, for the terminal and for the log of a batch job; fed by Snakemake's logger plugin."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from protosonic.campaign.state import read_state
from protosonic.reporting.state import duration, state_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from protosonic.campaign.layout import Layout
    from protosonic.campaign.state import CampaignState

__all__ = ["Jobs", "RunView", "open_view", "progress_line"]

LIVE = "live"
LIVE_S, PLAIN_S = 1.0, 30.0
"""Least time between two looks at the records."""
MOST_BUSY = 0.02
"""Share of the time that reading may take in Snakemake's process, which has jobs to start."""
BAR_WIDTH = 40


@dataclass
class Jobs:
    """Snakemake's jobs: how many are done of how many, and by rule those that run, ended and failed."""

    done: int = 0
    total: int = 0
    rules: dict[int, str] = field(default_factory=dict)
    running: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    def see(self, record: logging.LogRecord) -> None:
        """Count what a record of Snakemake says; others change nothing."""
        said: dict[str, Any] = record.__dict__
        event = str(said.get("event", ""))
        if event == "run_info":
            self.total = max(self.total, said["stats"].get("total", 0))
        elif event == "progress":
            self.done, self.total = said["done"], said["total"]
        elif event == "job_info":
            rule = said["rule_name"]
            if said["jobid"] not in self.rules:
                self.running[rule] += 1
            self.rules[said["jobid"]] = rule
        elif event == "job_finished":
            self._end(said["job_id"], self.ended)
        elif event == "job_error":
            self._end(said["jobid"], self.failed)

    def _end(self, job: int, where: Counter[str]) -> None:
        rule = self.rules.pop(job, None)
        if rule is not None:
            self.running[rule] -= 1
            where[rule] += 1

    def lines(self) -> list[str]:
        """Say which jobs run, ended and failed."""
        named = {"running": self.running, "ended": self.ended, "failed": self.failed}
        return [
            f"{name:<11} " + ", ".join(f"{rule} {count:,}" for rule, count in counts.items() if count > 0)
            for name, counts in named.items()
            if any(count > 0 for count in counts.values())
        ]


def progress_line(jobs: Jobs, state: CampaignState | None) -> str:
    """Say how far a run is, in one line."""
    words = [f"{jobs.done:,} of {jobs.total:,} jobs"]
    failed = jobs.failed.total()
    if failed:
        words.append(f"{failed:,} failed")
    if state is not None and state.partitions:
        counts = state.partitions
        words.append(f"{counts['done']:,} of {counts['planned']:,} partitions")
        if counts["failed"]:
            words.append(f"{counts['failed']:,} of them failed for good")
        words.append(f"{state.hits['done']:,} of {state.hits['planned']:,} hits")
        scored = sum(state.backends.values())
        words += [f"{hits / scored:.0%} by {name}" for name, hits in state.backends.items() if hits]
        if state.retries:
            words.append(f"{sum(state.retries.values()):,} requests sent again")
        if state.hours_left is not None and counts["missing"]:
            words += [f"{state.hits_per_s:,} hits/s", f"{duration(state.hours_left)} left"]
    return ", ".join(words)


class RunView(ABC):
    """What a run shows of itself.

    Parameters
    ----------
    layout
        The campaign; the present folder is its working directory.
    console
        Where it is shown.
    interval_s
        Least time between two looks at the records of the campaign.
    """

    def __init__(self, layout: Layout, console: Console, interval_s: float) -> None:
        self.jobs = Jobs()
        self.state: CampaignState | None = None
        self._layout, self._console, self._interval_s = layout, console, interval_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="protosonic-view", daemon=True)

    def start(self) -> None:
        """Begin to look at the records."""
        self._thread.start()

    def see(self, record: logging.LogRecord, text_of: Callable[[logging.LogRecord], str]) -> None:
        """Count a record, and print it where it is a warning, an error, or the only thing that is said."""
        self.jobs.see(record)
        message = record.getMessage() if isinstance(record.msg, str) else ""
        if record.levelno >= logging.WARNING or message.startswith("Nothing to be done"):
            text = text_of(record).strip()
            if text:
                self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        self.show()

    def close(self) -> None:
        """Show the end."""
        if not self._ended.is_set():
            self._ended.set()
            self._thread.join()
            self._read()
            self.end()

    @abstractmethod
    def show(self) -> None:
        """Show what is known now."""

    @abstractmethod
    def end(self) -> None:
        """Show what is known at the end."""

    def _look(self) -> None:
        pause = self._interval_s
        while not self._ended.wait(pause):
            took = self._read()
            self.show()
            pause = max(self._interval_s, took * (1 / MOST_BUSY - 1))

    def _read(self) -> float:
        begin = time.monotonic()
        try:
            self.state = read_state(self._layout)
        except Exception:  # noqa: BLE001 (a record that is just being written must not end a run)
            self._console.log("the records cannot be read at the moment")
        return time.monotonic() - begin


class LiveView(RunView):
    """Redrawn in place."""

    def __init__(self, layout: Layout, console: Console) -> None:
        super().__init__(layout, console, LIVE_S)
        self._live = Live(console=console, refresh_per_second=4, transient=True, get_renderable=self._picture)

    def start(self) -> None:
        """Begin to draw."""
        self._live.start()
        super().start()

    def show(self) -> None:
        """Do nothing: the picture is drawn anew four times a second."""

    def end(self) -> None:
        """Leave the terminal as it was; the summary follows."""
        self._live.stop()

    def _picture(self) -> Group:
        jobs, state = self.jobs, self.state
        lines = [] if state is None else [Text.from_markup(line) for line in state_lines(state)]
        lines += [Text(line) for line in (f"{'jobs':<11} {jobs.done:,} of {jobs.total:,}", *jobs.lines())]
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(*lines, ProgressBar(max(jobs.total, 1), jobs.done, width=BAR_WIDTH))


class PlainView(RunView):
    """A line with the time of day whenever the last one is old enough and something has changed."""

    def __init__(self, layout: Layout, console: Console) -> None:
        self._said, self._said_at = "", time.monotonic()
        super().__init__(layout, console, PLAIN_S)

    def show(self) -> None:
        """Say something from time to time."""
        if time.monotonic() - self._said_at >= PLAIN_S:
            self._say()

    def end(self) -> None:
        """Say the last word."""
        if self.jobs.total:
            self._say()

    def _say(self) -> None:
        line = progress_line(self.jobs, self.state)
        self._said_at = time.monotonic()
        if line != self._said:
            self._said = line
            self._console.print(
                f"{datetime.now(UTC):%H:%M:%S} {line}", markup=False, highlight=False, soft_wrap=True
            )


def open_view(layout: Layout, style: str) -> RunView:
    """Open the view of a campaign on standard error: ``live`` or ``plain``."""
    console = Console(stderr=True)
    view = LiveView(layout, console) if style == LIVE and console.is_terminal else PlainView(layout, console)
    view.start()
    return view
