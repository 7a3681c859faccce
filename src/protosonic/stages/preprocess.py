"""Stage ``preprocess``: a partition descriptor and its input file → the unit file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from protosonic import __version__
from protosonic.campaign.partitioning import selected_hits
from protosonic.campaign.permanent import permanent_failure
from protosonic.campaign.records import Partition, read_record
from protosonic.errors import DataError, TransientError
from protosonic.events.formats import open_events, unreadable
from protosonic.events.reader import BadEvent
from protosonic.images.profiles import load_profile
from protosonic.images.unit import UnitEvent, UnitWriter, prepare_event
from protosonic.publish import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from protosonic.campaign.records import EventRecord
    from protosonic.config import Preprocess
    from protosonic.images.profiles import Profile

__all__ = ["preprocess_partition"]

log = logging.getLogger(__name__)


def preprocess_partition(descriptor: Path, settings: Preprocess, output: Path) -> None:
    """Prepare the events of a partition.

    An event that cannot be prepared is quarantined in the unit file; it never stops the job. A failure that no retry
    mends makes an empty unit file that says so, which stage ``infer`` passes on.

    Parameters
    ----------
    descriptor
        The partition descriptor.
    settings
        The ``preprocess`` section of the configuration.
    output
        The unit file.

    Raises
    ------
    TransientError
        The input file is gone or has changed since it was catalogued.
    """
    partition = read_record(descriptor, Partition)
    profile = load_profile(settings.profile)
    header = {
        "partition": partition.id,
        "path": partition.path,
        "file_id": partition.file_id,
        "detector": partition.detector,
        "duplicate_patches": settings.duplicate_patches,
        "package_version": __version__,
    }
    try:
        _check_unchanged(partition)
        with UnitWriter(output, profile, header) as unit:
            for record, outcome in _prepared(partition, profile, settings.planes):
                if isinstance(outcome, UnitEvent):
                    unit.write(outcome)
                    log.info("%s: %d hits on %d images", record.id, outcome.n_hits, len(outcome.images))
                else:
                    unit.quarantine(record.id, record.entry, outcome)
                    log.warning("%s: quarantined: %s", record.id, outcome)
    except Exception as error:
        failure = permanent_failure(error, "preprocess")
        if failure is None:
            raise
        with UnitWriter(output, profile, header | {"failure": failure.model_dump()}):
            pass


def _prepared(
    partition: Partition, profile: Profile, planes: tuple[int, ...]
) -> Iterator[tuple[EventRecord, UnitEvent | str]]:
    """Give each planned event exactly once: prepared, or with the reason why it is not."""
    waiting = {event.entry: event for event in partition.events}
    try:
        with open_events(Path(partition.path), partition.spec.reader_options(), partition.format) as file:
            for event in file.read(sorted(waiting)):
                record = waiting.pop(event.entry)
                if isinstance(event, BadEvent):
                    yield record, event.error.reason
                    continue
                try:
                    unit = prepare_event(event, profile, planes)
                    _check_as_planned(record, unit, planes)
                except DataError as error:
                    yield record, error.reason
                else:
                    yield record, unit
    except DataError as error:
        for record in waiting.values():
            yield record, error.reason
        return
    for record in waiting.values():
        yield record, "input-changed: the file no longer holds this event"


def _check_as_planned(record: EventRecord, unit: UnitEvent, planes: tuple[int, ...]) -> None:
    planned = selected_hits(record, planes)
    if unit.id != record.id or unit.n_hits != planned:
        raise DataError(
            "the event is not the one that was catalogued",
            code="input-changed",
            expected=f"{record.id} with {planned} hits",
            found=f"{unit.id} with {unit.n_hits} hits",
        )


def _check_unchanged(partition: Partition) -> None:
    path = Path(partition.path)
    try:
        status = path.stat()
    except OSError as error:
        raise TransientError(
            str(unreadable(path, error)),
            hint="Bring the file back, or run the campaign again to plan without it",
        ) from error
    if (status.st_size, status.st_mtime_ns) != (partition.size, partition.mtime_ns) and (
        sha256_of(path) != partition.sha256
    ):
        raise TransientError(
            "the file has changed since it was catalogued",
            file=path,
            hint="Run the campaign again: the catalog will read it anew",
        )
