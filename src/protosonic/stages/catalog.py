"""Stage ``catalog``: a block of input files → one record per file."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protosonic import __version__
from protosonic.campaign.records import (
    CatalogBlock,
    EventRecord,
    FileRecord,
    RemoteState,
    read_record,
    write_record,
)
from protosonic.config import Remote
from protosonic.errors import DataError, TransientError, VerificationError
from protosonic.events.formats import open_events, unreadable
from protosonic.events.source import AnyFile, Source
from protosonic.publish import sha256_of
from protosonic.remote.urls import is_url
from protosonic.stages.input_files import fetcher_for, is_unchanged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from protosonic.campaign.inputs import InputFile
    from protosonic.events.reader import EventSummary
    from protosonic.remote.fetch import Fetcher

__all__ = ["catalog_block", "catalog_file"]

log = logging.getLogger(__name__)

COLLECTION_MIP = (1.5, 25.0)
"""Median hit amplitudes on the collection plane, in recob::Wire units, that are plausible; a MIP has 5 to 6."""


PROGRESS_S = 60.0
"""How often the records so far are written down, so that a job that is killed does not read them again."""
MAX_FAILURES = 3
"""After so many files in a row that could not be read for now, the servers are taken to be down."""
DEFAULT_REMOTE = Remote()


def catalog_block(files: Iterable[InputFile], output: Path, remote: Remote = DEFAULT_REMOTE) -> CatalogBlock:
    """Write the records of a block of files.

    Records in an older `output` are kept for files whose size, time of modification (checksum, for remote files) and
    options are as they were, so that adding a file to a block does not read the others again. The same holds for what
    a job had done that was killed or that met files which cannot be read for now: it leaves a hidden file beside
    `output`. Another version of protosonic reads all files anew.

    Parameters
    ----------
    files
        The files of the block.
    output
        The JSON file to write.
    remote
        The ``remote`` section of the configuration.

    Raises
    ------
    ConfigError
        The configuration lacks something that the format of a file needs, or a server does not know us.
    TransientError
        Files could not be read for now; all others are done.
    """
    progress = output.with_name(f".{output.name}.progress")
    known = _known_records(output) | _known_records(progress)
    records: list[FileRecord] = []
    failures: list[TransientError] = []
    in_a_row = 0
    saved = time.monotonic()
    with fetcher_for(remote) as fetcher:
        for file in sorted(files):
            try:
                records.append(_record_of(file, known.get(file.path), fetcher))
                in_a_row = 0
            except TransientError as error:
                log.warning("%s", error)
                failures.append(error)
                in_a_row += 1
                if in_a_row == MAX_FAILURES:
                    break
            if time.monotonic() - saved > PROGRESS_S:
                write_record(progress, CatalogBlock(package_version=__version__, files=tuple(records)))
                saved = time.monotonic()
    block = CatalogBlock(package_version=__version__, files=tuple(records))
    if failures:
        write_record(progress, block)
        log.error("%d files are done, %d could not be read for now", len(records), len(failures))
        raise failures[0]
    write_record(output, block)
    progress.unlink(missing_ok=True)
    return block


def _record_of(file: InputFile, known: FileRecord | None, fetcher: Fetcher) -> FileRecord:
    if known is not None and known.spec == file.spec and _is_current(known, fetcher):
        log.info("%s: unchanged", file.path)
        return known
    return catalog_file(file, fetcher)


def catalog_file(file: InputFile, fetcher: Fetcher | None = None) -> FileRecord:
    """Inspect one file: format, detector, size, checksum and events; a file that cannot be read gets a reason."""
    record = FileRecord(path=file.path, spec=file.spec)
    try:
        with _open(file.path, fetcher) as (source, facts):
            record = record.model_copy(update=facts)
            with open_events(source, file.spec.reader_options(), file.spec.format) as events:
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


@contextmanager
def _open(name: str, fetcher: Fetcher | None) -> Iterator[tuple[AnyFile, dict[str, Any]]]:
    """Give a file to the readers, and what the record says of its bytes: the whole file is read for its checksum."""
    if is_url(name):
        with (fetcher or fetcher_for(DEFAULT_REMOTE)).copy(name) as copy:
            if copy.url != name:
                log.info("%s: served by %s", name, copy.url)
            state = RemoteState(url=copy.url, adler32=copy.adler32, etag=copy.status.etag)
            facts = {"size": copy.size, "mtime_ns": copy.status.mtime_ns, "sha256": copy.sha256}
            yield Source(name, copy.path, copy.size), facts | {"remote": state}
        return
    path = Path(name)
    try:
        status = path.stat()
        facts = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256_of(path)}
    except OSError as error:
        raise unreadable(path, error) from error
    yield path, facts


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


def _is_current(record: FileRecord, fetcher: Fetcher) -> bool:
    if is_url(record.path):
        if not record.sha256:
            return False
        try:
            url, remote_status = fetcher.status(record.path)
        except DataError:
            return False
        return is_unchanged(record, url, remote_status)
    try:
        status = Path(record.path).stat()
    except OSError:
        return False
    return bool(record.sha256) and (status.st_size, status.st_mtime_ns) == (record.size, record.mtime_ns)
