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

__all__ = ["entry_of_event", "iterate_hits", "read_event"]


def read_event(
    dataset: Path, position: int, numbers: tuple[int, int, int] | None = None
) -> dict[str, NDArray[Any]]:
    """Read the hits of one event.

    Parameters
    ----------
    dataset
        Folder of the campaign's results, or one Parquet file of hits.
    position
        Position of the event among those with hits, in ascending order of their numbers.
    numbers
        Its run, subrun and event number; wins over `position`.

    Returns
    -------
    The columns of the dataset; empty where there is no such event.
    """
    if numbers is None:
        events = _events(dataset)
        if position >= len(events):
            return {}
        numbers = events[position]
    table = _hits(dataset).to_table(filter=_is_event(numbers))
    return {name: table[name].to_numpy() for name in table.column_names} if len(table) else {}


def entry_of_event(dataset: Path, numbers: tuple[int, int, int]) -> int | None:
    """Give the position of an event in its input file; ``None`` where a single file of hits does not say it."""
    accounting = dataset / "accounting.parquet"
    if not accounting.exists():
        return None
    rows = pq.read_table(accounting, columns=["entry"], filters=_is_event(numbers))
    return rows["entry"][0].as_py() if len(rows) else None


def iterate_hits(dataset: Path, columns: Sequence[str]) -> Any:
    """Iterate over the hits in batches of some columns (``pyarrow.RecordBatch``)."""
    return _hits(dataset).to_batches(columns=list(columns))


def _hits(dataset: Path) -> Any:
    return ds.dataset(dataset / "hits" if dataset.is_dir() else dataset, format="parquet")


def _is_event(numbers: tuple[int, int, int]) -> Any:
    run, subrun, event = numbers
    return (pc.field("run") == run) & (pc.field("subrun") == subrun) & (pc.field("event") == event)


def _events(dataset: Path) -> list[tuple[int, int, int]]:
    """List the events with hits, in ascending order."""
    if dataset.is_dir():
        rows = pq.read_table(dataset / "accounting.parquet").to_pylist()
        rows = [row for row in rows if row["state"] == "done" and row["hits_done"]]
    else:
        columns = ["run", "subrun", "event"]
        rows = pq.read_table(dataset, columns=columns).group_by(columns).aggregate([]).to_pylist()
    return sorted((row["run"], row["subrun"], row["event"]) for row in rows)
