"""What is in a Parquet file of the dataset, as catalogs describe files: runs, events, input files."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FileContents", "file_contents"]

_COLUMNS = ["run", "subrun", "event", "file_id"]


class FileContents(NamedTuple):
    """What a file of the dataset holds.

    Attributes
    ----------
    events
        (run, subrun, event) of each event that has a row, ascending.
    file_ids
        The input files that these come from.
    """

    events: tuple[tuple[int, int, int], ...]
    file_ids: tuple[str, ...]

    @property
    def subruns(self) -> list[tuple[int, int]]:
        """(run, subrun), each once, ascending."""
        return sorted({(run, subrun) for run, subrun, _ in self.events})


def file_contents(path: Path) -> FileContents:
    """Read a file of ``hits``, or the accounting, whose rows of whole files count for no event."""
    events: set[tuple[int, int, int]] = set()
    file_ids: set[str] = set()
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=_COLUMNS):
            table = batch.filter(batch["event"].is_valid())
            keys = np.column_stack([table[name].to_numpy().astype(np.int64) for name in _COLUMNS[:3]])
            events.update(
                (int(run), int(subrun), int(event)) for run, subrun, event in np.unique(keys, axis=0)
            )
            file_ids.update(batch["file_id"].unique().to_pylist())
    return FileContents(tuple(sorted(events)), tuple(sorted(file_ids - {""})))
