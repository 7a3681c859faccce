"""Reading parts of a finished dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["iterate_hits", "read_event"]


def read_event(
    results: Path, position: int, numbers: tuple[int, int, int] | None = None
) -> dict[str, NDArray[Any]]:
    """Read the hits of one event.

    Parameters
    ----------
    results
        Folder of the campaign's results.
    position
        Position of the event among those with hits, in ascending order of their numbers.
    numbers
        Its run, subrun and event number; wins over `position`.

    Returns
    -------
    The columns of the dataset; empty where there is no such event.
    """
    accounting = pq.read_table(results / "accounting.parquet").to_pylist()
    events = sorted(
        (row["run"], row["subrun"], row["event"])
        for row in accounting
        if row["state"] == "done" and row["hits_done"]
    )
    if numbers is None:
        if position >= len(events):
            return {}
        numbers = events[position]
    run, subrun, event = numbers
    wanted = (pc.field("run") == run) & (pc.field("subrun") == subrun) & (pc.field("event") == event)
    table = ds.dataset(results / "hits", format="parquet").to_table(filter=wanted)
    return {name: table[name].to_numpy() for name in table.column_names} if len(table) else {}


def iterate_hits(results: Path, columns: Sequence[str]) -> Any:
    """Iterate over the dataset in batches of some columns (``pyarrow.RecordBatch``)."""
    return ds.dataset(results / "hits", format="parquet").to_batches(columns=list(columns))
