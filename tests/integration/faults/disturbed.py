"""Campaigns that something happens to while they run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from integration.faults.servers import FaultyServer
from integration.serving import HANGS_AFTER_S, await_true, suspended
from support.campaign import CampaignRun, assert_same_hits, clean_environment, protosonic

PARTITIONS = 20
HITS = "1500"
"""Of an event, at least."""
TOLERANCE = 1e-5
IMPATIENT = {
    "connect_timeout_s": 2.0,
    "request_timeout_s": 5.0,
    "request_bytes": 130 * 9216,
    "max_in_flight": 4,
    "threads": 1,
}
"""Deadlines that are short enough for a test; production's are longer."""


@dataclass
class Prepared:
    """A campaign of which all but the scoring is done: copies of it go on with any endpoint.

    Attributes
    ----------
    hits
        Hits of the campaign.
    model
        The ONNX file.
    """

    run: CampaignRun
    hits: int
    model: Path

    @classmethod
    def make(cls, folder: Path, model: Path) -> Prepared:
        """Simulate the events and prepare their images."""
        data = folder / "data"
        protosonic(
            "simulate",
            str(data),
            "--files",
            "2",
            "--events",
            str(PARTITIONS // 2),
            "--hits",
            HITS,
            "--seed",
            "3",
        )
        config = {
            "inputs": [{"path": f"{data}/*.h5"}],
            "partition": {"target_hits": 1},
            "model": {"path": str(model)},
        }
        run = CampaignRun(folder / "prepared", config)
        run.run("--until", "partition", "model")
        plan = json.loads((run.work / "plan.json").read_text())["partitions"]
        assert len(plan) == PARTITIONS
        run.run("--notemp", *(f"work/{run.name}/units/{entry['id']}.h5" for entry in plan))
        return cls(run, sum(entry["hits"] for entry in plan), model)

    def at(
        self, folder: Path, *endpoints: str | dict[str, Any], policy: str = "endpoint-first", **inference: Any
    ) -> Disturbed:
        """Make a campaign that goes on from here with these endpoints."""
        shutil.copytree(self.run.workdir, folder, copy_function=shutil.copy2)
        listed = [{"url": entry} if isinstance(entry, str) else entry for entry in endpoints]
        section = IMPATIENT | {"policy": policy, "endpoints": listed} | inference
        return Disturbed(CampaignRun(folder, self.run.config | {"inference": section}))


@dataclass
class Disturbed:
    """A campaign that something happens to.

    Attributes
    ----------
    seconds
        How long it took.
    output
        What it printed.
    """

    run: CampaignRun
    seconds: float = 0.0
    output: str = ""
    _before: set[str] = field(default_factory=set)

    def go(
        self,
        when: Callable[[], bool] = lambda: True,
        disturb: Callable[[], object] = lambda: None,
        mend: Callable[[], object] | None = None,
        *,
        expect: int = 0,
    ) -> None:
        """Run it to the end, and disturb it once, when a condition holds.

        What is to be mended is mended when a partition has recorded a failure. No job starts while it is disturbed or
        mended, though those under way go on, and they end before others start: so work is left for the endpoint,
        however fast the CPU is and however slow the fault, and what it scores later is of jobs that came back to it.
        """
        start = time.monotonic()
        log = self.run.workdir / "output.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                self.run.command(), stdout=file, stderr=subprocess.STDOUT, env=clean_environment()
            )
            try:
                await_true(lambda: when() or process.poll() is not None)
                assert process.poll() is None, f"ended before it was disturbed: {log.read_text()}"
                if mend is None:
                    disturb()
                else:
                    [snakemake] = psutil.Process(process.pid).children()
                    with suspended(snakemake):
                        disturb()
                    await_true(lambda: bool(self.failures) or process.poll() is not None)
                    assert process.poll() is None, f"ended before it was mended: {log.read_text()}"
                    with suspended(snakemake):
                        mend()
                        await_true(lambda: not _has_jobs(snakemake))
                        self._before = set(self._statuses())
                process.wait(HANGS_AFTER_S)
            finally:
                process.kill()
                process.wait()
        self.seconds = time.monotonic() - start
        self.output = log.read_text()
        assert process.returncode == expect, self.output

    def _statuses(self) -> dict[str, dict[str, Any]]:
        paths = sorted(self.run.work.glob("status/*.json"))
        return {path.stem: json.loads(path.read_text()) for path in paths}

    @property
    def uses(self) -> list[dict[str, Any]]:
        """What every partition recorded of every backend."""
        return [use for status in self._statuses().values() for use in status["backends"]]

    @property
    def failures(self) -> Counter[str]:
        """Failed calls in the status files, by class."""
        total: Counter[str] = Counter()
        for use in self.uses:
            total.update(use["failures"])
        return total

    @property
    def fallbacks(self) -> list[str]:
        """Why endpoints were left, from ``campaign.json``."""
        reasons: list[str] = self.run.campaign()["fallbacks"]
        return reasons

    @property
    def hits_by(self) -> Counter[str]:
        """Hits by endpoint, or by backend where that is none."""
        return _hits_by(self.uses)

    @property
    def hits_after_mending(self) -> list[Counter[str]]:
        """The same of each partition that was started after the fault was mended."""
        later = [status for name, status in self._statuses().items() if name not in self._before]
        return [_hits_by(status["backends"]) for status in later]

    def check(self, undisturbed: Disturbed) -> None:
        """Check that it is complete, and that its scores are those of the undisturbed campaign."""
        columns = ["backend"]
        assert_same_hits(
            self.run.hits().drop_columns(columns), undisturbed.run.hits().drop_columns(columns), TOLERANCE
        )
        rows = self.run.accounting()
        assert len(rows) == PARTITIONS
        for row in rows:
            assert row["state"] == "done"
            assert row["hits_triton"] + row["hits_onnxruntime"] == row["hits_done"] == row["hits_planned"]
        totals = self.run.campaign()["totals"]["hits_by_backend"]
        assert sum(totals.values()) == sum(self.hits_by.values()) == len(self.run.hits())
        self.run.verify()


def _hits_by(uses: list[dict[str, Any]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for use in uses:
        total[use["endpoint"] or use["backend"]] += use["hits"]
    return total


def _has_jobs(snakemake: psutil.Process) -> bool:
    """Whether a job is under way; those that ended stay zombies while Snakemake is suspended."""
    for process in snakemake.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def after(server: FaultyServer, share: float, hits: int) -> Callable[[], bool]:
    """A condition: the server has scored a share of the hits since now, so that some partitions are done."""
    before = server.scored

    def is_reached() -> bool:
        return server.scored - before >= share * hits

    return is_reached


class Losses:
    """The time that each fault cost, written as JSON to the file that PROTOSONIC_FAULTS_JSON names."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._file = os.environ.get("PROTOSONIC_FAULTS_JSON")

    def note(self, fault: str, campaign: Disturbed, undisturbed: Disturbed) -> None:
        """Note what a fault did to a campaign."""
        hits = campaign.hits_by
        self._rows.append(
            {
                "fault": fault,
                "seconds": round(campaign.seconds, 1),
                "undisturbed_s": round(undisturbed.seconds, 1),
                "hits": sum(hits.values()),
                "hits_onnxruntime": hits["onnxruntime"],
                "failures": dict(campaign.failures),
                "departures": sum(use["departures"] for use in campaign.uses),
            }
        )
        if self._file:
            Path(self._file).write_text(json.dumps(self._rows, indent=1) + "\n")
