"""What the workflow mends in Snakemake and its plugins while they run; each has a test that says when it can go."""

from __future__ import annotations

import gc
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ask_sizes_once",
    "collect_garbage_rarely",
    "end_at_once",
    "let_signals_in",
    "see_cancelled_jobs",
]

SLURM_PLUGIN = "snakemake_executor_plugin_slurm"


def collect_garbage_rarely() -> None:
    """Let Python look for garbage less often in the process of Snakemake.

    The graph of 10,000 partitions is millions of objects that live to the end; searching them again and again takes a
    fifth of the time.
    """
    gc.set_threshold(200_000, 50, 1000)


def end_at_once() -> None:
    """Cancel the timers that Snakemake's scheduler leaves behind; for the end of a workflow.

    It sets one of a second each time it has started jobs, and the process would wait for them before it ends.
    """
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.cancel()


def let_signals_in(scheduler: Any) -> None:
    """Keep Snakemake from hanging when it is asked to end; for the start of a workflow.

    Its signal handler takes a lock that the same thread holds while it selects jobs: most of the time when there are
    thousands. A lock that a thread can take again does no harm there, for the handler only sets a flag.
    """
    scheduler._lock = threading.RLock()


def ask_sizes_once(scheduler: Any) -> None:
    """Keep Snakemake from asking for the inputs of all ready jobs whenever it starts one; for the start of a workflow.

    It prefers jobs with large inputs, and looks at them all again each time: a number of calls that grows with the square
    of the partitions, to a file system that many share. Inputs of ready jobs do not change.
    """
    ask = scheduler.update_input_sizes

    async def ask_for_new(jobs: Iterable[Any]) -> None:
        known = dict(scheduler._input_sizes)
        await ask([job for job in jobs if any(path not in known for path in job.input)])
        # What was not asked for now was forgotten where there are many.
        scheduler._input_sizes.update(known)

    scheduler.update_input_sizes = ask_for_new


def see_cancelled_jobs() -> None:
    """Let Snakemake's plugin for SLURM see jobs that were cancelled; for the start of a workflow.

    ``sacct`` says by whom a job was cancelled, "CANCELLED by 1000". The plugin does not know that state, and would wait for
    the job for ever.
    """
    plugin = sys.modules.get(SLURM_PLUGIN)
    if plugin is None:
        return
    query = plugin.query_job_status

    async def in_one_word(*arguments: Any) -> tuple[dict[str, str] | None, float | None]:
        states, seconds = await query(*arguments)
        if states is not None:
            states = {job: (state.split() or [""])[0] for job, state in states.items()}
        return states, seconds

    plugin.query_job_status = in_one_word  # type: ignore[attr-defined]
