"""Campaigns on SLURM: what Snakemake must be told, and the jobs that a killed run left in the queue.

Snakemake does not find its jobs again. A job is a Snakemake of its own on a node, whose outputs are as good as others, so
those that run are waited for; those that wait have done nothing, and are cancelled and submitted again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from protosonic.errors import ConfigError, TransientError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from protosonic.campaign.layout import Layout

__all__ = ["QueuedJob", "job_prefix", "jobs_in_queue", "settle_jobs", "slurm_arguments"]

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol")
WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT"}
PATIENCE_S = 300.0
"""How long SLURM may give no answer."""
CALL_S = 60.0
SHORTEST_POLL_S, LONGEST_POLL_S = 1.0, 30.0
CHUNK = 500
"""Jobs per call of scancel."""


class QueuedJob(NamedTuple):
    """A job that SLURM has not ended.

    Attributes
    ----------
    id, state
        Its number, and its state in SLURM's words.
    comment
        What it does, in Snakemake's words.
    """

    id: str
    state: str
    comment: str


def job_prefix(layout: Layout) -> str:
    """Give what the names of all jobs of a campaign begin with; in the working directory.

    The campaign's name is for people; the digest tells campaigns of that name in other folders apart.
    """
    where = f"{Path.cwd().resolve()}/{layout.name}"
    name = re.sub(r"[^A-Za-z0-9_-]", "-", layout.name)[:30]
    return f"{name}-{hashlib.sha256(where.encode()).hexdigest()[:12]}"


def slurm_arguments(layout: Layout) -> list[str]:
    """Give the options of Snakemake for a campaign on SLURM; in the working directory.

    Raises
    ------
    ConfigError
        SLURM or Snakemake's plugin for it is not here.
    TransientError
        SLURM does not answer.
    """
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        raise ConfigError(
            "this needs snakemake-executor-plugin-slurm, which is not installed",
            hint="pip install 'protosonic[slurm]'",
        )
    _require_commands()
    settings = _call("scontrol", "show", "config")
    storage = re.search(r"^AccountingStorageType\s*=\s*(\S+)", settings, re.MULTILINE)
    # Where nothing keeps accounts sacct would wait for ever.
    accounts = storage is not None and storage[1] not in {"accounting_storage/none", "(null)"}
    return [
        "--slurm-jobname-prefix",
        job_prefix(layout),
        "--slurm-logdir",
        str(layout.logs / "slurm"),
        "--slurm-status-command",
        "sacct" if accounts else "squeue",
    ]


def jobs_in_queue(prefix: str) -> list[QueuedJob]:
    """List the jobs of this user whose name begins so and that have not ended.

    Raises
    ------
    TransientError
        SLURM does not answer.
    """
    found = []
    for line in _call("squeue", "--me", "--noheader", "--array", "--format=%i|%T|%j|%k").splitlines():
        number, state, name, comment = line.split("|", 3)
        if name.startswith(f"{prefix}_"):
            found.append(QueuedJob(number, state, comment))
    return found


def settle_jobs(layout: Layout) -> None:
    """See that no job of an earlier run of a campaign is left, so that nothing runs twice; in the working directory.

    Raises
    ------
    ConfigError
        SLURM is not here.
    TransientError
        SLURM does not answer.
    """
    _require_commands()
    prefix = job_prefix(layout)
    said: tuple[int, int] | None = None
    pause = SHORTEST_POLL_S
    while jobs := jobs_in_queue(prefix):
        waiting = [job.id for job in jobs if job.state in WAITING]
        _cancel_waiting(waiting)
        number = (len(waiting), len(jobs) - len(waiting))
        if number != said:
            print(  # noqa: T201
                f"Jobs of the last run are left on SLURM: {number[0]} that wait are cancelled, {number[1]} that run are "
                "waited for.",
                flush=True,
            )
            said, pause = number, SHORTEST_POLL_S
        time.sleep(pause)
        pause = min(1.5 * pause, LONGEST_POLL_S)


def _cancel_waiting(jobs: Sequence[str]) -> None:
    # SLURM cancels only those that wait at that moment: one that has just started goes on.
    for start in range(0, len(jobs), CHUNK):
        _call("scancel", "--state=PENDING", *jobs[start : start + CHUNK])


def _require_commands() -> None:
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        raise ConfigError(
            "SLURM is not here",
            expected=f"the commands {', '.join(COMMANDS)}",
            found=f"no {', no '.join(missing)}",
            hint="Start the campaign on a login node of the cluster",
        )


def _call(*command: str) -> str:
    """Call SLURM until it answers."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=CALL_S)
            problem = process.stderr.strip() or f"exit code {process.returncode}"
            if process.returncode == 0:
                return process.stdout
        except subprocess.TimeoutExpired:
            problem = f"no answer in {CALL_S:g} s"
        if time.monotonic() > deadline:
            raise TransientError(
                f"{command[0]} does not work: {problem}", hint="Ask again when SLURM answers"
            )
        time.sleep(SHORTEST_POLL_S)
