"""How the events of a campaign are cut into partitions, and which are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protosonic.campaign.records import Partition, Plan, PlannedPartition, RefusedEvent
from protosonic.errors import DataError
from protosonic.publish import sha256_of_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from protosonic.campaign.records import EventRecord, FileRecord, PilotRecord
    from protosonic.config import Settings
    from protosonic.config.model import Inference
    from protosonic.events.model import EventId

__all__ = ["make_partitions", "memory_of_event", "memory_of_scoring", "partition_id", "target_hits"]

BASE_MEM_MB = 450
"""Interpreter, libraries, model and the activations of as many patches as :data:`BASE_PATCHES`."""
BASE_PATCHES = 256
"""Also the largest batch that is chosen by measurement; the sparse engine takes less."""
MEM_BYTES_PER_PATCH = 2**19
REQUEST_COPIES = 3
"""Of a request's patches: as they were cut, as the client library holds them, and as gRPC sends them."""
MEM_BYTES_PER_SAMPLE = 160
MEM_BYTES_PER_HIT = 400


def memory_of_event(event: EventRecord) -> int:
    """Estimate the memory in MB that preparing and classifying an event takes; events are held one at a time."""
    hits = sum(event.hits_by_plane)
    return BASE_MEM_MB + (event.n_samples * MEM_BYTES_PER_SAMPLE + hits * MEM_BYTES_PER_HIT) // 2**20


def memory_of_scoring(inference: Inference, threads: int) -> int:
    """Estimate the memory in MB that scoring takes beyond what :func:`memory_of_event` holds already."""
    activations = (
        max(threads * (inference.batch_size or BASE_PATCHES) - BASE_PATCHES, 0) * MEM_BYTES_PER_PATCH
    )
    endpoints = () if inference.policy == "cpu-only" else inference.endpoints
    requests = len(endpoints) * inference.max_in_flight * inference.request_bytes * REQUEST_COPIES
    return (activations + requests) // 2**20


def partition_id(file: FileRecord, events: Iterable[EventRecord]) -> str:
    """Name a partition by its content: the bytes of its file, how they are read, and the events."""
    return sha256_of_json(
        {
            "sha256": file.sha256,
            "spec": file.spec.model_dump(mode="json"),
            "events": [[event.entry, *event.id] for event in events],
        }
    )[:16]


def make_partitions(
    files: Iterable[FileRecord],
    settings: Settings,
    catalog: Iterable[str] = (),
    pilot: PilotRecord | None = None,
) -> tuple[list[Partition], Plan]:
    """Cut all events into partitions.

    A partition holds consecutive events of one file, so it depends on nothing but that file and the configuration:
    adding, removing or reordering files with other events changes no partition. An event never spans partitions.

    An event (run, subrun, event) that is given twice is planned once, from the place that comes first by path and
    position among those that can be used; each later one is refused with both places named.

    Parameters
    ----------
    files
        All file records, in any order.
    settings
        ``partition`` and ``preprocess.planes`` are used.
    catalog
        Names of the block files that the records come from, for the plan.
    pilot
        What was measured: files of the pilot stay cut as they were, so that nothing is done twice, and the others are
        cut by time.

    Returns
    -------
    The partitions in order of file and event, and the plan.
    """
    first_place: dict[EventId, str] = {}
    partitions: list[Partition] = []
    refused: list[RefusedEvent] = []
    refused_files: list[FileRecord] = []
    planes = settings.preprocess.planes
    for file in sorted(files, key=lambda record: record.path):
        if file.reason is not None:
            refused_files.append(file)
            continue
        accepted = []
        for event in file.events:
            place = f"{file.path} entry {event.entry}"
            reason = event.reason or _refusal(event, settings)
            if reason is None and event.id in first_place:
                reason = DataError(
                    f"{event.id} is given twice: in {first_place[event.id]} and in {place}",
                    code="duplicate-event",
                ).reason
            if reason is None:
                first_place[event.id] = place
                accepted.append(event)
            else:
                refused.append(_refused(file, event, planes, reason))
        partitions += _cut(file, accepted, planes, target_hits(settings, pilot, file.sha256))
    plan = Plan(
        catalog=tuple(sorted(catalog)),
        partitions=tuple(
            PlannedPartition(id=p.id, path=p.path, hits=p.hits, mem_mb=p.mem_mb) for p in partitions
        ),
        refused=tuple(refused),
        refused_files=tuple(refused_files),
    )
    return partitions, plan


def selected_hits(event: EventRecord, planes: tuple[int, ...]) -> int:
    """Count the hits of an event in the selected planes."""
    return sum(count for plane, count in enumerate(event.hits_by_plane) if plane in planes)


def _refusal(event: EventRecord, settings: Settings) -> str | None:
    needed = memory_of_event(event)
    if needed <= settings.partition.max_mem_mb:
        return None
    return DataError(
        "the event needs more memory than a job may have",
        code="too-large",
        expected=f"at most {settings.partition.max_mem_mb} MB",
        found=f"{needed} MB for {event.n_samples} samples",
        hint="Raise partition.max_mem_mb",
    ).reason


def _refused(file: FileRecord, event: EventRecord, planes: tuple[int, ...], reason: str) -> RefusedEvent:
    return RefusedEvent(
        path=file.path,
        file_id=file.file_id,
        entry=event.entry,
        run=event.run,
        subrun=event.subrun,
        event=event.event,
        hits=selected_hits(event, planes),
        reason=reason,
    )


def target_hits(settings: Settings, pilot: PilotRecord | None, file_sha256: str | None = None) -> int:
    """Give the number of hits that the partitions of a file are cut by."""
    if pilot is None or not pilot.seconds_per_hit:
        return settings.partition.target_hits
    if file_sha256 in pilot.files:
        return pilot.target_hits
    return max(round(60 * settings.partition.target_minutes / pilot.seconds_per_hit), 1)


def _cut(
    file: FileRecord, events: list[EventRecord], planes: tuple[int, ...], target: int
) -> Iterator[Partition]:
    group: list[EventRecord] = []
    hits = 0
    for event in events:
        more = selected_hits(event, planes)
        if group and hits + more > target:
            yield _partition(file, group, hits)
            group, hits = [], 0
        group.append(event)
        hits += more
    if group:
        yield _partition(file, group, hits)


def _partition(file: FileRecord, events: list[EventRecord], hits: int) -> Partition:
    assert file.format is not None
    assert file.detector is not None
    return Partition(
        id=partition_id(file, events),
        path=file.path,
        size=file.size,
        mtime_ns=file.mtime_ns,
        sha256=file.sha256,
        spec=file.spec,
        format=file.format,
        detector=file.detector,
        events=tuple(events),
        hits=hits,
        mem_mb=max(memory_of_event(event) for event in events),
    )
