"""The process of Snakemake: started, watched and ended for ``protosonic run``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from protosonic.campaign.brake import Brake
from protosonic.campaign.last_run import remove_stale_locks
from protosonic.campaign.view import show_cursor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from protosonic.campaign.layout import Layout

__all__ = ["Ended", "Snakemake"]

WATCH_S = 2.0
LONGEST_WATCH_S = 30.0
"""Between looks at the partitions, until the first is done: often at first, then rarely."""


class Ended(NamedTuple):
    """How Snakemake ended.

    Attributes
    ----------
    code
        Its exit code; negative where a signal killed it.
    interrupted
        Whether a signal to it or to this process, or the brake, ended it.
    asked
        Whether it was a signal to this process.
    """

    code: int
    interrupted: bool
    asked: bool = False


class Snakemake:
    """Snakemake on a campaign, in the present folder, which is the working directory already.

    Parameters
    ----------
    command
        The command, whose ``--directory`` is the working directory.
    layout
        The campaign.
    lock
        Descriptor of its lock. Snakemake inherits it, so the campaign is held also when this process is killed.
    stop_after_failed
        As many partitions that fail for good, before any is done, stop it.

    Attributes
    ----------
    brake
        What watches for that.
    """

    def __init__(self, command: Sequence[str], layout: Layout, lock: int, stop_after_failed: int) -> None:
        self._command = [*command]
        self._command[self._command.index("--directory") + 1] = "."
        self._layout, self._lock = layout, lock
        self.brake = Brake(layout, stop_after_failed)

    def run(self, *arguments: str) -> Ended:
        """Run it with more arguments until it ends or must be stopped."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        with subprocess.Popen(
            [*self._command, *arguments], env=os.environ | {"PATH": path}, pass_fds=[self._lock]
        ) as process:
            signals: list[int] = []

            def end(number: int, _: FrameType | None) -> None:
                # A terminal sends Ctrl-C to Snakemake as well, which then ends its jobs; a batch system only asks us. The
                # interrupt can be lost in Snakemake, where a finalizer happens to run; what is sent here sets a flag.
                signals.append(number)
                process.terminate()

            before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                code = self._wait(process)
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
        if code < 0:  # as the kernel does that lacks memory; it has left its locks, and we hold the campaign
            remove_stale_locks(self._layout)
            show_cursor()
        return Ended(code, bool(signals) or code < 0 or self.brake.was_pulled, bool(signals))

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        pause = WATCH_S
        while not self.brake.is_pulled():
            try:
                return process.wait(pause)
            except subprocess.TimeoutExpired:
                pause = min(1.5 * pause, LONGEST_WATCH_S)
        process.terminate()
        return process.wait()
