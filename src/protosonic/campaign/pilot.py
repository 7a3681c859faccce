"""``protosonic run --pilot``: a few partitions first, which are measured and size the rest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from protosonic.campaign.last_run import DRY_RUN
from protosonic.campaign.launch import refuse_closed, run_campaign
from protosonic.campaign.layout import Layout
from protosonic.campaign.partitioning import memory_of_scoring
from protosonic.campaign.records import (
    Partition,
    PartitionStatus,
    PilotPartition,
    PilotRecord,
    Plan,
    read_record,
    write_record,
)
from protosonic.campaign.recovery import forget_partitions
from protosonic.config import load_settings
from protosonic.errors import ConfigError, PilotError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from protosonic.campaign.records import PlannedPartition
    from protosonic.campaign.view import View
    from protosonic.config import Settings

__all__ = ["choose_pilot", "measure_pilot", "run_with_pilot"]

STAGES = ("preprocess", "infer")


def run_with_pilot(
    config: Path,
    workdir: Path,
    profile: str,
    cores: int | None,
    arguments: Sequence[str],
    number: int,
    *,
    site: Path | None = None,
    prepare: Callable[[Layout, Settings], None] = refuse_closed,
    view: View = "auto",
) -> int:
    """Run some partitions first; go on with the rest, sized by what they took, if not too many events failed.

    Parameters
    ----------
    number
        Partitions of the pilot.

    The others, and what is returned and raised, are those of :func:`protosonic.campaign.launch.run_campaign`.

    Raises
    ------
    PilotError
        More events of the pilot are not done than ``pilot.max_failed_fraction`` allows.
    """
    from protosonic.reporting.pilot import print_pilot

    if DRY_RUN.intersection(arguments):
        raise ConfigError("a dry run measures nothing", where="--pilot", hint="Leave one of the two out")
    settings = load_settings(config)
    layout, inner = Layout(settings.campaign.name, workdir), Layout(settings.campaign.name)

    def run(*targets: Path, first: Callable[[Layout, Settings], None] = prepare) -> int:
        return run_campaign(
            config,
            workdir,
            profile,
            cores,
            arguments,
            site=site,
            targets=[str(path) for path in targets],
            prepare=first,
            view=view,
        )

    if not _is_released(layout):
        code = run(inner.plan)
        if code:
            return code
        chosen = choose_pilot(read_record(layout.plan, Plan).partitions, number)
        names = [partition.id for partition in chosen]

        def again(place: Layout, settings: Settings) -> None:
            prepare(place, settings)
            forget_partitions(place, [name for name in names if _has_failed(place, name)])

        code = run(*(inner.status(name) for name in names), first=again)
        if code:
            return code
        write_record(layout.pilot, measure_pilot(layout, settings, chosen))
    record = read_record(layout.pilot, PilotRecord)
    print_pilot(record, settings, read_record(layout.plan, Plan))
    check_released(record, settings, layout)
    return run()


def check_released(record: PilotRecord, settings: Settings, layout: Layout) -> None:
    """Say whether the rest of the campaign may run.

    Raises
    ------
    PilotError
        It may not.
    """
    if not record.released:
        raise PilotError(
            "too many events of the pilot are not done, so the rest of the campaign was not started",
            file=layout.pilot,
            expected=f"a fraction of at most {settings.pilot.max_failed_fraction}",
            found=f"{record.failed_fraction:.4g}",
            hint="'protosonic status --failed' says why. Mend it and run the same command again, or raise "
            "pilot.max_failed_fraction",
        )


def choose_pilot(partitions: Sequence[PlannedPartition], number: int) -> list[PlannedPartition]:
    """Choose partitions that are spread evenly over the files; equal plans give equal choices."""
    number = min(number, len(partitions))
    return [partitions[(2 * index + 1) * len(partitions) // (2 * number)] for index in range(number)]


def measure_pilot(layout: Layout, settings: Settings, chosen: Sequence[PlannedPartition]) -> PilotRecord:
    """Sum up what the partitions of the pilot took, from their statuses and Snakemake's benchmarks.

    Seconds are those of whole jobs, with their start, so that small partitions make hits look more expensive.
    """
    partitions, files = [], set()
    ratios: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for planned in chosen:
        descriptor = read_record(layout.descriptor(planned.id), Partition)
        status = read_record(layout.status(planned.id), PartitionStatus)
        seconds, memory = {}, {}
        for stage in STAGES:
            seconds[stage], memory[stage] = _benchmark(layout, stage, planned.id)
            estimate = planned.mem_mb
            if stage == "infer":
                estimate += memory_of_scoring(settings.inference, 1)
            if (measured := memory[stage]) is not None and status.state == "done":
                ratios[stage].append(measured / estimate)
        files.add(descriptor.sha256)
        partitions.append(
            PilotPartition(
                id=planned.id,
                path=planned.path,
                events=len(status.events),
                events_done=sum(event.state == "done" for event in status.events),
                hits=status.rows,
                preprocess_seconds=seconds["preprocess"],
                infer_seconds=seconds["infer"],
                preprocess_mem_mb=memory["preprocess"],
                infer_mem_mb=memory["infer"],
            )
        )
    hits = sum(partition.hits for partition in partitions)
    done = [partition for partition in partitions if partition.hits]
    took = sum(partition.preprocess_seconds + partition.infer_seconds for partition in done)
    events = sum(partition.events for partition in partitions)
    events_done = sum(partition.events_done for partition in partitions)
    failed = (events - events_done) / events if events else 0.0
    return PilotRecord(
        partitions=tuple(partitions),
        files=tuple(sorted(files)),
        target_hits=settings.partition.target_hits,
        seconds_per_hit=took / hits if hits else None,
        memory_ratio={stage: round(max(values), 4) for stage, values in ratios.items() if values},
        failed_fraction=failed,
        released=failed <= settings.pilot.max_failed_fraction,
    )


def _benchmark(layout: Layout, stage: str, partition: str) -> tuple[float, float | None]:
    """Read the seconds and the resident memory in MB of the last time that a job was done."""
    path = layout.benchmark(stage, partition)
    try:
        last = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
        memory = last["max_rss"]
        return float(last["s"]), float(memory) if isinstance(memory, int | float) and memory else None
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise PilotError(
            "a partition of the pilot was not measured",
            file=path,
            found=str(error),
            hint="Remove its status and scores and run the same command again",
        ) from error


def _is_released(layout: Layout) -> bool:
    return layout.pilot.exists() and read_record(layout.pilot, PilotRecord).released


def _has_failed(layout: Layout, partition: str) -> bool:
    path = layout.status(partition)
    if not path.exists():
        return False
    status = read_record(path, PartitionStatus)
    return any(event.state != "done" for event in status.events)
