"""A week of production in a discrete-event simulation, in which jobs, nodes, the controller and servers fail.

Time, the cluster and its failures are simulated. The bookkeeping is the package's own: the plan and the status of each
partition are real records on disk, whoever starts the campaign asks what is missing as ``protosonic status`` and ``recover`` do, and
the end is proven by the checks of the merge. Snakemake and SLURM are modelled: a run tries a partition once and twice
again; jobs outlive the controller; a new run cancels the jobs that wait and waits for those that run.

The simulation stops with an error if a partition runs twice at a time, is done twice, or is tried again after it failed for
good.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
import time
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import simpy

from common import report
from protosonic import __version__
from protosonic.campaign.accounting import accounting_table, check_statuses
from protosonic.campaign.layout import Layout
from protosonic.campaign.permanent import failed_status
from protosonic.campaign.records import (
    EventRecord,
    EventStatus,
    InputSpec,
    ModelRecord,
    Partition,
    PartitionFailure,
    PartitionStatus,
    Plan,
    PlannedPartition,
    read_record,
    write_record,
)
from protosonic.campaign.recovery import forget_partitions, plan_recovery
from protosonic.campaign.state import read_state
from protosonic.config import check_settings
from protosonic.dataset.accounting import totals

EVENTS = 10
HITS = 20_000
Process = Generator[simpy.Event, Any, Any]


@dataclass
class Options:
    """Hours are simulated ones. The rates are those of a bad week on shared resources."""

    partitions: int = 10_000
    nodes: int = 12
    slots_per_node: int = 2
    job_hours: float = 0.33
    """Median; the spread is a factor of 1.4."""
    most_submitted: int = 500
    """What the profile calls jobs."""
    retries: int = 2
    evicted_per_hour: float = 0.05
    """Opportunistic slots are taken back; some percent of half-hour jobs."""
    killed_per_hour: float = 0.01
    """Jobs that vanish without a word."""
    node_hours: float = 300.0
    """Between failures of one node, each of which kills its jobs."""
    short_of_memory: float = 0.01
    """Partitions whose first attempt needs more memory than it asks for."""
    short_of_time: float = 0.01
    poison: float = 0.001
    """Partitions that fail for good."""
    quarantined: float = 0.002
    """Events that cannot be used."""
    controller_hours: float = 24.0
    """Between deaths of the machine that controls the campaign."""
    operator_hours: float = 8.0
    """Longest time until somebody starts it again."""
    outages: int = 4
    """Of the endpoint: jobs score on the CPU meanwhile."""
    cpu_slowness: float = 5.0
    storage_outages: int = 3
    """Of the servers of the inputs: jobs that begin meanwhile fail."""
    outage_hours: float = 1.0
    seed: int = 1


class BrokenError(Exception):
    """The campaign did something that it must never do."""


class Week:
    """The world: a cluster with its failures, and the records of one campaign."""

    def __init__(self, options: Options, folder: Path) -> None:
        self.options = options
        self.random = random.Random(options.seed)  # noqa: S311
        self.env = simpy.Environment()
        self.settings = check_settings({"inputs": [{"path": "*.h5"}], "campaign": {"name": "week"}})
        self.layout = Layout("week", folder)
        self.model = ModelRecord(path="model.onnx", sha256="0" * 64, untrained=False)
        self.slots = simpy.Store(self.env)
        for slot in range(options.nodes * options.slots_per_node):
            self.slots.put(slot)
        self.running: dict[str, simpy.Process] = {}
        self.node_of: dict[str, int] = {}
        self.waiting: dict[str, simpy.Process] = {}
        self.count: Counter[str] = Counter()
        self.submitted: Counter[str] = Counter()
        self.hours_used = self.hours_wasted = 0.0
        self.traits = self._plan()
        week = 24 * 7
        self.endpoint_away = [self.random.uniform(0, week) for _ in range(options.outages)]
        self.storage_away = [self.random.uniform(0, week) for _ in range(options.storage_outages)]
        for node in range(options.nodes):
            self.env.process(self._fail_node(node))

    def _plan(self) -> dict[str, str]:
        """Write the plan and the descriptors; give what is special about partitions."""
        planned, traits = [], {}
        chances = {
            "poison": self.options.poison,
            "memory": self.options.short_of_memory,
            "time": self.options.short_of_time,
        }
        for number in range(self.options.partitions):
            name = f"{number:016x}"
            planned.append(PlannedPartition(id=name, path=f"{number}.h5", hits=EVENTS * HITS, mem_mb=1000))
            write_record(self.layout.descriptor(name), self._descriptor(number))
            draw = self.random.random()
            for trait, chance in chances.items():
                if 0 <= draw < chance:
                    traits[name] = trait
                draw -= chance
        plan = Plan(catalog=(), partitions=tuple(planned), refused=(), refused_files=())
        write_record(self.layout.plan, plan)
        return traits

    def _descriptor(self, number: int) -> Partition:
        return Partition(
            id=f"{number:016x}",
            path=f"{number}.h5",
            size=1,
            mtime_ns=1,
            sha256=f"{number:016x}" * 4,
            spec=InputSpec(),
            format="native",
            detector="protodune-sp",
            events=tuple(
                EventRecord(entry=entry, run=number, subrun=0, event=entry, hits_by_plane=(HITS,))
                for entry in range(EVENTS)
            ),
            hits=EVENTS * HITS,
            mem_mb=1000,
        )

    def _is_away(self, outages: list[float]) -> bool:
        return any(start <= self.env.now < start + self.options.outage_hours for start in outages)

    def _fail_node(self, node: int) -> Process:
        while True:
            yield self.env.timeout(self.random.expovariate(1 / self.options.node_hours))
            self.count["node failures"] += 1
            for name in [name for name, place in self.node_of.items() if place == node]:
                self.running[name].interrupt("node")

    def job(self, name: str, attempt: int) -> Process:
        """Be one job of a partition, and say how it ended."""
        self.submitted[name] += 1
        self.count["jobs"] += 1
        request = self.slots.get()
        try:
            slot = yield request
        except simpy.Interrupt:
            request.cancel()
            if request.triggered:
                self.slots.put(request.value)
            return "cancelled"
        self.waiting.pop(name, None)
        if name in self.running:
            raise BrokenError(f"partition {name} runs twice")
        if self.layout.status(name).exists():
            raise BrokenError(f"partition {name} is done again")
        start = self.env.now
        process = self.env.active_process
        assert process is not None
        self.running[name], self.node_of[name] = process, slot // self.options.slots_per_node
        outcome = "done"
        try:
            outcome = yield from self._work(name, attempt)
        except simpy.Interrupt as interrupt:
            outcome = str(interrupt.cause)
        finally:
            del self.running[name], self.node_of[name]
            self.slots.put(slot)
        self.hours_used += self.env.now - start
        if outcome != "done":
            self.hours_wasted += self.env.now - start
        self.count[outcome] += 1
        return outcome

    def _work(self, name: str, attempt: int) -> Process:
        options, trait = self.options, self.traits.get(name)
        if self._is_away(self.storage_away):
            yield self.env.timeout(0.1)
            return "input server"
        hours = options.job_hours * math.exp(self.random.gauss(0, math.log(1.4)))
        if self._is_away(self.endpoint_away):
            hours *= options.cpu_slowness
        if trait in {"memory", "time"} and attempt == 1:
            yield self.env.timeout(hours / 2 if trait == "memory" else 2 * hours)
            return trait
        for cause, rate in (("evicted", options.evicted_per_hour), ("killed", options.killed_per_hour)):
            after = self.random.expovariate(rate) if rate else math.inf
            if after < hours:
                yield self.env.timeout(after)
                return cause
        yield self.env.timeout(hours)
        if trait == "poison":
            self._write_failed(name)
            return "poison"
        self._write_done(name, hours)
        return "done"

    def _write_failed(self, name: str) -> None:
        failure = PartitionFailure(
            stage="infer", error="ModelError", exit_code=4, message="no numbers", recoverable=False
        )
        partition = self._descriptor(int(name, 16))
        scores = self.layout.scores(name)
        scores.parent.mkdir(parents=True, exist_ok=True)
        status = failed_status(partition, failure, self.model, self.settings, scores)
        write_record(self.layout.status(name), status)

    def _write_done(self, name: str, hours: float) -> None:
        events = []
        for entry in range(EVENTS):
            bad = self.random.random() < self.options.quarantined
            events.append(
                EventStatus(
                    entry=entry,
                    run=int(name, 16),
                    subrun=0,
                    event=entry,
                    hits_planned=HITS,
                    hits_done=0 if bad else HITS,
                    state="quarantined" if bad else "done",
                    reason="not-finite: a sample" if bad else None,
                    backends={} if bad else {"triton": HITS},
                )
            )
        failed = self._failed_example
        status = failed.model_copy(
            update={
                "partition": name,
                "path": f"{int(name, 16)}.h5",
                "file_id": name,
                "events": tuple(events),
                "rows": sum(event.hits_done for event in events),
                "seconds": 3600 * hours,
                "state": "done",
                "failure": None,
            }
        )
        write_record(self.layout.status(name), status)

    @property
    def _failed_example(self) -> PartitionStatus:
        """What all statuses of a campaign have in common."""
        if not hasattr(self, "_example"):
            failure = PartitionFailure(stage="infer", error="x", exit_code=1, message="x", recoverable=False)
            scores = self.layout.work / "example.parquet"
            self._example = failed_status(self._descriptor(0), failure, self.model, self.settings, scores)
        return self._example

    def submit(self, name: str, attempt: int) -> simpy.Process:
        """Put a job of a partition into the queue."""
        process = self.env.process(self.job(name, attempt))
        self.waiting[name] = process
        return process

    def partition(self, name: str, places: simpy.Resource) -> Process:
        """Try a partition as Snakemake does in one run; interrupted where its machine dies."""
        try:
            with places.request() as place:
                yield place
                for attempt in range(1, self.options.retries + 2):
                    outcome = yield self.submit(name, attempt)
                    if outcome in {"done", "poison", "cancelled"}:
                        return
        except simpy.Interrupt:
            return

    def settle(self) -> Process:
        """Cancel the jobs of an earlier run that wait, and wait for those that run."""
        for process in list(self.waiting.values()):
            process.interrupt("cancelled")
        self.waiting.clear()
        while self.running:
            yield simpy.AllOf(self.env, list(self.running.values()))

    def run(self) -> Process:
        """Run the campaign, and say whether that ended by itself."""
        yield self.env.process(self.settle())
        self.count["runs"] += 1
        state = read_state(self.layout)
        places = simpy.Resource(self.env, self.options.most_submitted)
        partitions = [self.env.process(self.partition(name, places)) for name in state.missing]
        death = self.env.timeout(self.random.expovariate(1 / self.options.controller_hours))
        ended = simpy.AllOf(self.env, partitions)
        yield ended | death
        if ended.triggered:
            return True
        self.count["controller deaths"] += 1
        for process in partitions:
            if process.is_alive:
                process.interrupt("controller")
        return False

    def operator(self) -> Process:
        """Start the campaign again until nothing can be recovered."""
        while True:
            ended = yield self.env.process(self.run())
            recovery = plan_recovery(read_state(self.layout))
            if ended and not recovery.missing and not recovery.again:
                return
            yield self.env.timeout(self.random.uniform(0.1, self.options.operator_hours))
            forget_partitions(
                self.layout, [problem.partition for problem in recovery.again if problem.partition]
            )


def simulate(options: Options, folder: Path) -> dict[str, Any]:
    """Simulate a campaign and prove what became of it.

    Returns
    -------
    What is printed.

    Raises
    ------
    BrokenError, VerificationError
        Something was lost or doubled.
    """
    week = Week(options, folder)
    week.env.run(until=week.env.process(week.operator()))
    plan = read_record(week.layout.plan, Plan)
    statuses = [read_record(week.layout.status(entry.id), PartitionStatus) for entry in plan.partitions]
    check_statuses(plan, statuses)
    account = totals(accounting_table(plan, statuses))
    planned = options.partitions * EVENTS
    if (
        account["events_planned"] != planned
        or account["events_done"] + account["events_quarantined"] != planned
    ):
        raise BrokenError(f"{planned} events became {account}")
    poison = {name for name, trait in week.traits.items() if trait == "poison"}
    failed = {status.partition for status in statuses if status.state == "failed"}
    if failed != poison or week.count["poison"] != len(poison):
        raise BrokenError("partitions that fail for good were not tried until then, and once")
    return {
        "days": round(week.env.now / 24, 2),
        "partitions": options.partitions,
        "jobs": week.count["jobs"],
        "jobs per partition": round(week.count["jobs"] / options.partitions, 3),
        "most jobs of a partition": max(week.submitted.values()),
        "runs": week.count["runs"],
        "controller deaths": week.count["controller deaths"],
        "node failures": week.count["node failures"],
        **{f"jobs that ended so: {cause}": week.count[cause] for cause in
           ("evicted", "killed", "node", "memory", "time", "input server", "poison")},
        "job hours lost": f"{100 * week.hours_wasted / week.hours_used:.1f} %",
        "events planned": account["events_planned"],
        "events done": account["events_done"],
        "events quarantined": account["events_quarantined"],
        "of these in partitions that failed for good": EVENTS * len(poison),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for field in fields(Options):
        kind = type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    parser.add_argument("--json", type=Path, help="write the result there as well")
    chosen = vars(parser.parse_args())
    output = chosen.pop("json")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = simulate(Options(**chosen), Path(folder))
    rows = [
        {"what": name, "number": f"{value:,}" if isinstance(value, int) else value}
        for name, value in result.items()
    ]
    report(f"A week of production, protosonic {__version__}", rows, output, seconds=time.monotonic() - start)


if __name__ == "__main__":
    main()
