"""Faults inside jobs, and a journal of them: Python imports this where PYTHONPATH names its folder.

The plan is a JSON file, named by CLUSTER_FAULTS: {"partition": {"stage": …, "kind": …, "times": …, "amount": …}}. The first
`times` attempts of that stage of the partition meet the fault. Everything else runs as always.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

STAGES = ("preprocess", "infer")


def _note(journal: Path, *words: object) -> None:
    with journal.open("a") as file:
        file.write(" ".join(map(str, (time.time(), os.getpid(), *words))) + "\n")


def _meet(kind: str, amount: float) -> None:
    if kind == "sleep":
        time.sleep(amount)
    elif kind == "memory":
        held = bytearray(int(amount) << 20)
        held[::4096] = b"x" * len(held[::4096])  # all pages are touched
        time.sleep(5)
    elif kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "fail":
        os._exit(10)


def _begin(plan: Path) -> None:
    words = sys.orig_argv
    stage = next((word for word in words if word in STAGES), None)
    found = re.search(r"/partitions/([0-9a-f]{16})\.json", " ".join(words))
    if stage is None or found is None:
        return
    partition = found[1]
    journal = plan.with_suffix(".journal")
    attempt = journal.read_text().count(f"start {stage} {partition}") if journal.exists() else 0
    _note(
        journal, "start", stage, partition, os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURMD_NODENAME")
    )
    # How the command ended is seen from its outputs; a killed one leaves no line.
    atexit.register(_note, journal, "end", stage, partition)
    fault = json.loads(plan.read_text()).get(partition)
    if fault and fault["stage"] == stage and attempt < fault["times"]:
        _meet(fault["kind"], fault.get("amount", 0))


if "CLUSTER_FAULTS" in os.environ and "protosonic" in " ".join(sys.orig_argv[:2]):
    _begin(Path(os.environ["CLUSTER_FAULTS"]))
