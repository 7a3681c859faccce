"""The course of a campaign, from what its jobs left: when each ran, with what resources, and when calls failed."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from protosonic.campaign.records import Plan, read_record
from protosonic.campaign.state import read_statuses

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from protosonic.campaign.layout import Layout

__all__ = ["STAGES", "Course", "Job", "Scoring", "StageUse", "read_course", "stage_uses"]

STAGES = ("catalog", "partition", "model", "preprocess", "infer", "collect", "merge")
"""Stages whose jobs are measured, in their order; the report cannot show itself."""


@dataclass(frozen=True)
class Job:
    """A job that ended well.

    Attributes
    ----------
    stage, name
        Its rule, and the partition or block.
    begin, seconds
        When it began, as a Unix time, and its wall time.
    cpu_s, max_rss_mb
        CPU time and largest resident memory; ``None`` where it was too short to be measured.
    threads, asked_mb
        What it asked for; ``None`` where Snakemake's extended benchmarks were switched off.
    """

    stage: str
    name: str
    begin: float
    seconds: float
    cpu_s: float | None = None
    max_rss_mb: float | None = None
    threads: int | None = None
    asked_mb: float | None = None


@dataclass(frozen=True)
class Scoring:
    """How a partition was scored.

    Attributes
    ----------
    partition
        Its name.
    begin, seconds
        When it began, as a Unix time, and how long it took.
    hits
        Hits by what scored them: URL of an endpoint, or the backend.
    latency_s
        Percentiles of the latency of requests in seconds, by endpoint.
    faults
        Time, endpoint and class of failed calls: of each partition the first ones.
    """

    partition: str
    begin: float
    seconds: float
    hits: Mapping[str, int]
    latency_s: Mapping[str, Mapping[str, float]]
    faults: tuple[tuple[float, str, str], ...]


@dataclass
class Course:
    """The jobs and partitions of a campaign in the order of their beginning; both empty where ``work/`` is gone."""

    jobs: list[Job] = field(default_factory=list)
    scorings: list[Scoring] = field(default_factory=list)

    @property
    def span(self) -> tuple[float, float]:
        """Beginning of the first job and end of the last, as Unix times."""
        ways: list[Job | Scoring] = [*self.jobs, *self.scorings]
        return min(way.begin for way in ways), max(way.begin + way.seconds for way in ways)


@dataclass(frozen=True)
class StageUse:
    """What the jobs of a stage took.

    Attributes
    ----------
    stage, jobs
        Its name and number of jobs.
    wall_s, median_s, longest_s
        Sum of their wall times, the median and the longest.
    cpu_s
        Sum of their CPU times.
    cores_used
        CPU time for each second of wall time and each thread that was asked for, or for each job where that is not known.
    max_rss_mb, asked_mb
        Largest memory of a job, and the most that one asked for.
    """

    stage: str
    jobs: int
    wall_s: float
    median_s: float
    longest_s: float
    cpu_s: float
    cores_used: float
    max_rss_mb: float
    asked_mb: float | None


def read_course(layout: Layout) -> Course:
    """Read benchmarks and statuses; what cannot be read is left out, since the dataset does not depend on it.

    The end of a job is when its benchmark was written. Where jobs were tried again the last attempt counts.
    """
    course = Course(jobs=sorted(_jobs(layout), key=lambda job: job.begin))
    if layout.plan.exists():
        plan = read_record(layout.plan, Plan)
        statuses, _ = read_statuses(layout, {partition.id: partition.path for partition in plan.partitions})
        began = {job.name: job.begin for job in course.jobs if job.stage == "infer"}
        course.scorings = sorted(
            (_scoring(name, status, began.get(name)) for name, status in statuses.items() if status["rows"]),
            key=lambda scoring: scoring.begin,
        )
    return course


def stage_uses(jobs: Iterable[Job]) -> list[StageUse]:
    """Sum up jobs by stage, in the order of the stages."""
    by_stage: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        by_stage[job.stage].append(job)
    return [_stage_use(stage, by_stage[stage]) for stage in STAGES if stage in by_stage]


def _stage_use(stage: str, jobs: list[Job]) -> StageUse:
    seconds = [job.seconds for job in jobs]
    measured = [job for job in jobs if job.cpu_s is not None]
    available_s = sum(job.seconds * (job.threads or 1) for job in measured)
    cpu_s = sum(job.cpu_s or 0.0 for job in measured)
    return StageUse(
        stage=stage,
        jobs=len(jobs),
        wall_s=sum(seconds),
        median_s=median(seconds),
        longest_s=max(seconds),
        cpu_s=cpu_s,
        cores_used=cpu_s / available_s if available_s else 0.0,
        max_rss_mb=max((job.max_rss_mb or 0.0 for job in jobs), default=0.0),
        asked_mb=max((job.asked_mb for job in jobs if job.asked_mb is not None), default=None),
    )


def _jobs(layout: Layout) -> Iterator[Job]:
    folder = layout.benchmark("x", "x").parents[1]
    for stage in STAGES:
        for path in (folder / f"{stage}.jsonl", *(folder / stage).glob("*.jsonl")):
            try:
                line = path.read_text(encoding="utf-8").splitlines()[-1]
                measured, ended = json.loads(line), path.stat().st_mtime
                seconds = float(measured["s"])
            except (OSError, ValueError, IndexError, KeyError):
                continue
            yield Job(
                stage=stage,
                name=path.stem,
                begin=ended - seconds,
                seconds=seconds,
                cpu_s=_number(measured.get("cpu_time")),
                max_rss_mb=_number(measured.get("max_rss")),
                threads=measured.get("threads"),
                asked_mb=_number(measured.get("resources", {}).get("mem_mb")),
            )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _scoring(name: str, status: Mapping[str, Any], began: float | None) -> Scoring:
    begin = status["written"] - status["seconds"]
    if began is not None:  # the records could have been copied; the job that scored them began no earlier
        begin = max(begin, began)
    hits: Counter[str] = Counter()
    latency_s, faults = {}, []
    for use in status["backends"]:
        hits[use["endpoint"] or use["backend"]] += use["hits"]
        if use["latency_s"]:
            latency_s[use["endpoint"]] = use["latency_s"]
        faults += [
            (begin + fault["seconds"], use["endpoint"] or use["backend"], fault["failure"])
            for fault in use["faults"]
        ]
    return Scoring(
        partition=name,
        begin=begin,
        seconds=status["seconds"],
        hits={source: n for source, n in hits.items() if n},
        latency_s=latency_s,
        faults=tuple(faults),
    )
