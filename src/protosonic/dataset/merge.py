"""Merging the scores of all partitions into one sorted dataset, in bounded memory."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from protosonic.dataset.schema import HITS_SCHEMA, schema_fingerprint
from protosonic.dataset.scores import parquet_writer
from protosonic.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["EventRows", "check_rows", "merge_scores", "merged_events"]

_CACHED_ROW_GROUPS = 32
_EVENT_COLUMNS = ["run", "subrun", "event"]

EventKey = tuple[int, int, int]


class EventRows(NamedTuple):
    """An event that a scores file must hold; sorts by its numbers."""

    key: EventKey
    hits: int
    scores: Path


class _Place(NamedTuple):
    row_group: int
    start: int
    stop: int


def merge_scores(
    events: Sequence[EventRows],
    folder: Path,
    *,
    target_rows: int,
    row_group_rows: int,
    footer: Mapping[str, Any],
) -> list[tuple[Path, int]]:
    """Write the rows of all events, sorted by run, subrun, event and hit.

    How the rows are cut into files and row groups depends on the rows alone, not on the partitions they come from.

    Parameters
    ----------
    events
        What the scores files must hold, exactly.
    folder
        Folder to fill with ``part-00000.parquet``, …
    target_rows, row_group_rows
        Rows per file and per row group.
    footer
        Provenance for the footers.

    Returns
    -------
    The files with their numbers of rows.

    Raises
    ------
    VerificationError
        An event is missing, given twice, has other hits than promised, or there are rows of an event that was not
        announced.
    """
    return _write(merged_events(events), folder, target_rows, row_group_rows, footer)


def merged_events(events: Sequence[EventRows]) -> Iterator[pa.Table]:
    """Give the rows of each event that has any, in ascending order, from the scores files that hold them.

    Raises
    ------
    VerificationError
        As :func:`merge_scores`.
    """
    index = _index(events)
    read_row_group = lru_cache(_CACHED_ROW_GROUPS)(_read_row_group)
    for event in sorted(events):
        place = index.get(event.key)
        if place is None:  # it has no hits, else it would be missing
            continue
        table = read_row_group(event.scores, place.row_group).slice(place.start, place.stop - place.start)
        check_rows(table, event.key, event.hits, event.scores)
        yield table


def check_rows(table: pa.Table, key: EventKey, hits: int, file: Path) -> None:
    """Check the rows of one event: their number, ascending hit indices, finite scores.

    Raises
    ------
    VerificationError
        Naming the event.
    """
    where = "run {} subrun {} event {}".format(*key)
    if len(table) != hits:
        raise VerificationError(
            "an event has another number of hits", file=file, where=where, expected=hits, found=len(table)
        )
    if np.any(np.diff(table["hit"].to_numpy()) <= 0):
        raise VerificationError("a hit of an event is given twice or out of order", file=file, where=where)
    for name in ("track", "em", "none", "michel"):
        if not np.isfinite(table[name].to_numpy()).all():
            raise VerificationError(f"a score {name} is not finite", file=file, where=where)


def event_runs(columns: Sequence[NDArray[np.int64]]) -> list[tuple[EventKey, int, int]]:
    """Find runs of rows of the same event: its key, first row and row after the last."""
    n = len(columns[0])
    if n == 0:
        return []
    changes = np.zeros(n, dtype=bool)
    changes[0] = True
    for column in columns:
        changes[1:] |= np.diff(column) != 0
    starts = np.flatnonzero(changes)
    stops = np.append(starts[1:], n)
    keys = zip(*(column[starts].tolist() for column in columns), strict=True)
    return [
        (key, start, stop) for key, start, stop in zip(keys, starts.tolist(), stops.tolist(), strict=True)
    ]


def _index(events: Sequence[EventRows]) -> dict[EventKey, _Place]:
    wanted: dict[EventKey, EventRows] = {}
    for event in events:
        if event.key in wanted:
            raise VerificationError("an event is given twice", file=event.scores, where=str(event.key))
        wanted[event.key] = event
    places: dict[EventKey, _Place] = {}
    for path in sorted({event.scores for event in events}):
        for key, place in _places(path):
            expected = wanted.get(key)
            if expected is None or expected.scores != path:
                raise VerificationError(
                    "the file holds an event that its status does not name", file=path, where=str(key)
                )
            if key in places:
                raise VerificationError("the rows of an event are not together", file=path, where=str(key))
            places[key] = place
    missing = [event for event in events if event.hits and event.key not in places]
    if missing:
        raise VerificationError("an event is missing", file=missing[0].scores, where=str(missing[0].key))
    return places


def _places(path: Path) -> Iterator[tuple[EventKey, _Place]]:
    with pq.ParquetFile(path) as file:
        if schema_fingerprint(file.schema_arrow) != schema_fingerprint(HITS_SCHEMA):
            raise VerificationError(
                "the columns are not those of the dataset", file=path, found=file.schema_arrow.names
            )
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=_EVENT_COLUMNS)
            for key, start, stop in event_runs([table[name].to_numpy() for name in _EVENT_COLUMNS]):
                yield key, _Place(group, start, stop)


def _read_row_group(path: Path, group: int) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read_row_group(group)


def _write(
    tables: Iterator[pa.Table], folder: Path, target_rows: int, row_group_rows: int, footer: Mapping[str, Any]
) -> list[tuple[Path, int]]:
    files: list[tuple[Path, int]] = []
    for chunk in _files(_row_groups(tables, row_group_rows, target_rows), target_rows):
        path = folder / f"part-{len(files):05d}.parquet"
        rows = 0
        with parquet_writer(path, HITS_SCHEMA, footer) as writer:
            for table in chunk:
                writer.write_table(table, row_group_size=row_group_rows)
                rows += len(table)
        files.append((path, rows))
    return files


def _row_groups(tables: Iterator[pa.Table], row_group_rows: int, target_rows: int) -> Iterator[pa.Table]:
    """Cut a stream of tables into row groups; a file ends with a shorter one."""
    pending: list[pa.Table] = []
    rows = written = 0
    for table in tables:
        pending.append(table)
        rows += len(table)
        while rows >= (size := min(row_group_rows, target_rows - written % target_rows)):
            whole = pa.concat_tables(pending)
            yield whole.slice(0, size)
            pending, rows, written = [whole.slice(size)], rows - size, written + size
    if rows:
        yield pa.concat_tables(pending)


def _files(row_groups: Iterator[pa.Table], target_rows: int) -> Iterator[Iterator[pa.Table]]:
    """Group row groups into files; there is always one file, if only an empty one."""
    first = next(row_groups, HITS_SCHEMA.empty_table())
    while first is not None:
        state = {"rows": 0}

        def chunk(table: pa.Table | None = first, state: dict[str, int] = state) -> Iterator[pa.Table]:
            while table is not None:
                state["rows"] += len(table)
                yield table
                table = next(row_groups, None) if state["rows"] < target_rows else None

        yield chunk()
        first = next(row_groups, None)
