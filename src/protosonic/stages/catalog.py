"""Stage ``catalog``: a block of input files → one record per file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from protosonic import __version__
from protosonic.campaign.records import CatalogBlock, EventRecord, FileRecord, read_record, write_record
from protosonic.errors import DataError, VerificationError
from protosonic.events.formats import open_events, unreadable
from protosonic.publish import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from protosonic.campaign.inputs import InputFile
    from protosonic.events.reader import EventSummary

__all__ = ["catalog_block", "catalog_file"]

log = logging.getLogger(__name__)

COLLECTION_MIP = (1.5, 25.0)
"""Median hit amplitudes on the collection plane, in recob::Wire units, that are plausible; a MIP has 5 to 6."""


def catalog_block(files: Iterable[InputFile], output: Path) -> CatalogBlock:
    """Write the records of a block of files.

    Records in an older `output` are kept for files whose size, time of modification and options are as they were, so
    that adding a file to a block does not read the others again. Another version of protosonic reads all files anew.

    Parameters
    ----------
    files
        The files of the block.
    output
        The JSON file to write.

    Raises
    ------
    ConfigError
        The configuration lacks something that the format of a file needs.
    """
    known = _known_records(output)
    records = []
    for file in sorted(files):
        record = known.get(file.path)
        if record is None or record.spec != file.spec or not _is_current(record):
            record = catalog_file(file)
        else:
            log.info("%s: unchanged", file.path)
        records.append(record)
    block = CatalogBlock(package_version=__version__, files=tuple(records))
    write_record(output, block)
    return block


def catalog_file(file: InputFile) -> FileRecord:
    """Inspect one file: format, detector, size, checksum and events; a file that cannot be read gets a reason."""
    path = Path(file.path)
    record = FileRecord(path=file.path, spec=file.spec)
    try:
        try:
            status = path.stat()
            record = record.model_copy(
                update={"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256_of(path)}
            )
        except OSError as error:
            raise unreadable(path, error) from error
        with open_events(path, file.spec.reader_options(), file.spec.format) as events:
            summaries = list(events.summaries())
            record = record.model_copy(
                update={
                    "format": events.format,
                    "detector": events.detector.name,
                    "events": tuple(_event_record(summary) for summary in summaries),
                    "warnings": tuple(_warnings(summaries)),
                }
            )
    except DataError as error:
        log.warning("%s: refused: %s", file.path, error.reason)
        return record.model_copy(update={"reason": error.reason})
    for warning in record.warnings:
        log.warning("%s: %s", file.path, warning)
    hits = sum(sum(event.hits_by_plane) for event in record.events)
    log.info(
        "%s: %s, %s, %d events, %d hits", file.path, record.format, record.detector, len(record.events), hits
    )
    return record


def _event_record(summary: EventSummary) -> EventRecord:
    return EventRecord(
        entry=summary.entry,
        run=summary.id.run,
        subrun=summary.id.subrun,
        event=summary.id.event,
        hits_by_plane=summary.hits_by_plane,
        n_samples=summary.n_samples,
        reason=summary.error.reason if summary.error else None,
    )


def _warnings(summaries: list[EventSummary]) -> list[str]:
    amplitudes = sorted(s.median_amplitude for s in summaries if s.median_amplitude is not None)
    if not amplitudes:
        return []
    median = amplitudes[len(amplitudes) // 2]
    low, high = COLLECTION_MIP
    if low <= median <= high:
        return []
    warning = (
        f"the median hit amplitude on the collection plane is {median:.3g} recob::Wire units, where minimum-ionising "
        "tracks give 5 to 6: is charge_scale right?"
    )
    return [warning]


def _known_records(output: Path) -> dict[str, FileRecord]:
    """Give the older records by path; another version of protosonic may have read the files otherwise."""
    try:
        block = read_record(output, CatalogBlock)
    except VerificationError:
        return {}
    return {record.path: record for record in block.files if block.package_version == __version__}


def _is_current(record: FileRecord) -> bool:
    try:
        status = Path(record.path).stat()
    except OSError:
        return False
    return bool(record.sha256) and (status.st_size, status.st_mtime_ns) == (record.size, record.mtime_ns)
