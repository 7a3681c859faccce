"""What the workflow mends in Snakemake; the tests also fail when Snakemake no longer needs it."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from types import ModuleType, SimpleNamespace

import pytest
from snakemake.scheduling.job_scheduler import JobScheduler

from protosonic.campaign.snakemake_mending import (
    ask_sizes_once,
    collect_garbage_rarely,
    end_at_once,
    let_signals_in,
    see_cancelled_jobs,
)


def test_garbage_is_collected_rarely_while_the_graph_of_jobs_grows():
    before = gc.get_threshold()
    try:
        collect_garbage_rarely()
        assert all(later > earlier for later, earlier in zip(gc.get_threshold(), before, strict=True))
    finally:
        gc.set_threshold(*before)


def test_no_timer_is_left_to_be_waited_for():
    timer = threading.Timer(3600, lambda: None)
    timer.start()
    end_at_once()
    timer.join()
    assert timer.finished.is_set()


@pytest.mark.parametrize("is_let_in", [True, False])
def test_signal_while_jobs_are_selected_does_not_stop_the_scheduler_for_ever(is_let_in):
    """Without it Snakemake hangs; if it no longer does, ``let_signals_in`` can go."""
    scheduler = JobScheduler.__new__(JobScheduler)
    scheduler._lock = threading.Lock()
    scheduler._open_jobs = threading.Semaphore(0)
    if is_let_in:
        let_signals_in(scheduler)

    def select() -> None:
        with scheduler._lock:
            scheduler.exit_gracefully()

    thread = threading.Thread(target=select, daemon=True)
    thread.start()
    thread.join(30 if is_let_in else 1)
    assert thread.is_alive() != is_let_in


class CountedInput:
    """An input whose size is asked for."""

    def __init__(self) -> None:
        self.asked = 0

    async def exists(self) -> bool:
        self.asked += 1
        return True

    async def size(self) -> int:
        return 7


@pytest.mark.parametrize("once", [True, False])
def test_sizes_of_inputs_are_asked_for_once(once):
    """Without it Snakemake asks again each time; if it no longer does, ``ask_sizes_once`` can go."""
    scheduler = JobScheduler.__new__(JobScheduler)
    scheduler._input_sizes = {}
    if once:
        ask_sizes_once(scheduler)
    inputs = [CountedInput() for _ in range(3 * 10_000)]  # Snakemake forgets when it knows many
    jobs = [SimpleNamespace(input=[*three]) for three in zip(*[iter(inputs)] * 3, strict=True)]
    for first in (9_000, 5_000, 0):
        asyncio.run(scheduler.update_input_sizes(jobs[first:]))
        assert all(scheduler._input_sizes[path] == 7 for job in jobs[first:] for path in job.input)
    asked = [job.input[0].asked for job in (jobs[0], jobs[5_000], jobs[9_000])]
    assert asked == ([1, 1, 1] if once else [1, 2, 3])


def test_state_of_a_cancelled_job_is_one_word(monkeypatch):
    """The plugin itself is in tests/cluster, where a job is cancelled on a real SLURM."""
    plugin = ModuleType("snakemake_executor_plugin_slurm")

    async def query(command: str, logger: None) -> tuple[dict[str, str] | None, float | None]:
        return ({"1": "CANCELLED by 1000", "2": "RUNNING", "3": ""}, 0.1) if command else (None, None)

    plugin.query_job_status = query
    monkeypatch.setitem(sys.modules, plugin.__name__, plugin)
    see_cancelled_jobs()
    assert asyncio.run(plugin.query_job_status("sacct", None)) == (
        {"1": "CANCELLED", "2": "RUNNING", "3": ""},
        0.1,
    )
    assert asyncio.run(plugin.query_job_status("", None)) == (None, None)


def test_without_the_plugin_for_slurm_there_is_nothing_to_mend(monkeypatch):
    monkeypatch.delitem(sys.modules, "snakemake_executor_plugin_slurm", raising=False)
    see_cancelled_jobs()
