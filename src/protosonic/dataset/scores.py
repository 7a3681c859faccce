"""The scores of one partition as Parquet, in the columns of the dataset."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from protosonic.dataset.schema import HITS_SCHEMA, WIRE_SPACES
from protosonic.errors import DataError
from protosonic.publish import publish

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["FOOTER_KEY", "ScoresWriter", "footer_of", "hits_table", "parquet_writer"]

FOOTER_KEY = b"protosonic"
"""Key of the provenance in the metadata of every Parquet file; its value is JSON."""
ROW_GROUP_ROWS = 32_768


def parquet_writer(path: Path, schema: pa.Schema, footer: Mapping[str, Any]) -> pq.ParquetWriter:
    """Open a Parquet file for writing, with the provenance in its footer."""
    metadata = {FOOTER_KEY: json.dumps(footer, sort_keys=True).encode()}
    return pq.ParquetWriter(path, schema.with_metadata(metadata), compression="zstd", write_statistics=True)


def footer_of(path: Path) -> dict[str, Any]:
    """Read the provenance from a Parquet file.

    Raises
    ------
    DataError
        Code ``corrupt``: it is not one of ours.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
        footer: dict[str, Any] = json.loads(metadata[FOOTER_KEY])
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise DataError(
            "not a Parquet file with provenance", code="corrupt", file=path, found=str(error)
        ) from error
    return footer


def hits_table(
    event_id: tuple[int, int, int],
    hits: Mapping[str, NDArray[Any]],
    scores: NDArray[np.float32],
    score_names: tuple[str, ...],
    backend: NDArray[np.object_],
    file_id: str,
) -> pa.Table:
    """Make the rows of one event, in order of their hit index.

    Parameters
    ----------
    event_id
        Run, subrun and event number.
    hits
        Columns of the hits, in any order.
    scores
        float32 [hits, classes], in the order of `hits`.
    score_names
        Class of each column of `scores`.
    backend
        Name of the backend of each hit.
    file_id
        Name of the input file's content.
    """
    order = np.argsort(hits["hit"], kind="stable")
    n = len(order)
    columns: dict[str, Any] = {
        name: np.full(n, value) for name, value in zip(("run", "subrun", "event"), event_id, strict=True)
    }
    columns |= {name: scores[order, column] for column, name in enumerate(score_names)}
    columns["wire_space"] = np.array(WIRE_SPACES, object)[hits["in_wire_space"][order].astype(np.intp)]
    columns["backend"] = backend[order]
    columns["file_id"] = pa.repeat(pa.scalar(file_id), n)
    for field in HITS_SCHEMA:
        if field.name not in columns:
            columns[field.name] = hits[field.name][order]
    return pa.table([pa.array(columns[field.name], field.type) for field in HITS_SCHEMA], schema=HITS_SCHEMA)


class ScoresWriter:
    """Writes a scores file event by event; it appears when the ``with`` block ends without an error.

    Row groups end between events, so that a merge reads single events without reading the whole file.
    """

    def __init__(self, path: Path, footer: Mapping[str, Any]) -> None:
        self._path = path
        self._footer = footer
        self._stack = ExitStack()
        self._pending: list[pa.Table] = []
        self.rows = 0

    def __enter__(self) -> Self:
        part = self._stack.enter_context(publish(self._path))
        self._writer = self._stack.enter_context(parquet_writer(part, HITS_SCHEMA, self._footer))
        self._stack.push(self._finish)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write what is left; on the stack, so that nothing is published when this fails."""
        if kind is None:
            self._flush()

    def write(self, table: pa.Table) -> None:
        """Append the rows of an event; events come in ascending order."""
        self._pending.append(table)
        self.rows += len(table)
        if sum(map(len, self._pending)) >= ROW_GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if any(map(len, self._pending)):
            table = pa.concat_tables(self._pending)
            self._writer.write_table(table, row_group_size=len(table))
        self._pending = []
