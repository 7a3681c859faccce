"""Summing up the accounting of a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protosonic.dataset.schema import BACKENDS

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["totals"]


def totals(accounting: pa.Table) -> dict[str, Any]:
    """Sum up the accounting; a file that could not be read counts as one quarantined event."""
    states = accounting["state"].to_pylist()
    done = sum(state == "done" for state in states)
    hits = {name: sum(accounting[f"hits_{name}"].to_pylist()) for name in BACKENDS}
    return {
        "events_planned": len(states),
        "events_done": done,
        "events_quarantined": len(states) - done,
        "hits_done": sum(hits.values()),
        "hits_by_backend": hits,
        "quarantined_fraction": (len(states) - done) / len(states) if states else 0.0,
    }
