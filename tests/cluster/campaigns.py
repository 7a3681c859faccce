"""Campaigns on the test cluster, with faults inside their jobs, and a journal of what ran when."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from cluster.slurm import ACCOUNT, SlurmCluster
from support.campaign import BIN, CampaignRun, clean_environment

FAULTS = Path(__file__).with_name("faults")
QUICK = ("--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "5")
"""Tiny jobs are not worth the pauses that are right for real ones."""


class Attempt(NamedTuple):
    """One time that a stage of a partition ran; `end` is infinite where it was killed."""

    stage: str
    partition: str
    job: str
    node: str
    start: float
    end: float


@dataclass
class SlurmCampaign(CampaignRun):
    """A campaign on the cluster.

    Attributes
    ----------
    cluster
        The cluster.
    faults
        What goes wrong inside jobs; see faults/sitecustomize.py.
    """

    cluster: SlurmCluster = field(kw_only=True)
    faults: dict[str, dict[str, Any]] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        site = {"partition": "main"} | ({"account": ACCOUNT} if self.cluster.accounting else {})
        (self.workdir / "site.yaml").write_text(yaml.safe_dump(site))

    def command(self, *arguments: str, cores: int = 2) -> list[str]:
        config = str(self.write_config())
        command = [
            str(BIN / "protosonic"),
            "run",
            config,
            "--workdir",
            str(self.workdir),
            "--profile",
            "slurm",
        ]
        return [*command, "--", *QUICK, *arguments]

    @property
    def plan_file(self) -> Path:
        return self.workdir / "faults.json"

    def environment(self) -> dict[str, str]:
        self.plan_file.write_text(json.dumps(self.faults))
        faults = {"PYTHONPATH": str(FAULTS), "CLUSTER_FAULTS": str(self.plan_file)}
        return clean_environment() | self.cluster.environment | faults

    def run(self, *arguments: str, cores: int = 2, expect: int = 0) -> str:
        process = self.start(*arguments)
        code = process.wait()
        self.outputs.append(self.output())
        assert code == expect, self.output()
        return self.output()

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the campaign, in a session of its own."""
        with (self.workdir / "output.log").open("wb") as log:
            return subprocess.Popen(
                self.command(*arguments),
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                start_new_session=True,
            )

    def output(self) -> str:
        return (self.workdir / "output.log").read_text()

    def plan_here(self) -> list[dict[str, Any]]:
        """Make the plan on this machine, which saves the time of some jobs, and give its partitions."""
        CampaignRun(self.workdir, self.config, self.name).run("--until", "partition", "model")
        return list(json.loads((self.work / "plan.json").read_text())["partitions"])

    def statuses(self) -> dict[str, dict[str, Any]]:
        return {path.stem: json.loads(path.read_text()) for path in self.work.glob("status/*.json")}

    def attempts(self) -> list[Attempt]:
        """Everything that ran, from the journal."""
        journal = self.plan_file.with_suffix(".journal")
        starts: dict[tuple[str, ...], tuple[float, str, str]] = {}
        found = []
        for line in journal.read_text().splitlines() if journal.exists() else ():
            moment, pid, what, stage, partition, *rest = line.split()
            if what == "start":
                starts[pid, stage, partition] = (float(moment), rest[0], rest[1])
            else:
                start, job, node = starts.pop((pid, stage, partition))
                found.append(Attempt(stage, partition, job, node, start, float(moment)))
        for (_, stage, partition), (start, job, node) in starts.items():
            found.append(Attempt(stage, partition, job, node, start, float("inf")))
        return sorted(found, key=lambda attempt: attempt.start)

    def await_true(
        self, what: str, condition: Any, process: subprocess.Popen[bytes], seconds: float = 300
    ) -> None:
        """Wait for something while the campaign runs."""
        end = time.monotonic() + seconds
        while not condition():
            assert process.poll() is None, self.output()
            assert time.monotonic() < end, f"{what}: not in {seconds:.0f} s\n{self.output()}"
            time.sleep(0.2)

    def jobs_of(self, partition: str) -> list[str]:
        """Numbers of the SLURM jobs that worked on a partition, in their order."""
        return list(
            dict.fromkeys(attempt.job for attempt in self.attempts() if attempt.partition == partition)
        )

    def history(self) -> dict[str, dict[str, str]]:
        """What accounting knows of each job of this campaign."""
        return {
            job["JobIDRaw"]: job
            for job in self.cluster.history()
            if job["JobName"].startswith(f"{self.name}-")
        }

    def ends(self) -> dict[str, float]:
        """When each job ended that did end, in seconds since 1970."""
        return {
            number: datetime.fromisoformat(job["End"]).timestamp()
            for number, job in self.history().items()
            if job["End"] != "Unknown"
        }


def overlapping(attempts: list[Attempt], jobs: dict[str, float]) -> list[tuple[Attempt, Attempt]]:
    """Pairs of attempts at one partition of which the second began before the first had ended.

    `jobs` says when the SLURM job of a killed attempt ended.
    """
    by_partition = defaultdict(list)
    for attempt in attempts:
        end = jobs.get(attempt.job, attempt.end) if attempt.end == float("inf") else attempt.end
        by_partition[attempt.partition].append(attempt._replace(end=end))
    return [
        (first, second)
        for tries in by_partition.values()
        for first, second in pairwise(tries)
        if second.start < first.end
    ]


def switch_off(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a campaign with its Snakemake, as when the login node is switched off; jobs on nodes go on."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
