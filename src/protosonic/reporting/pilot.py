"""What a pilot measured, on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from protosonic.campaign.partitioning import target_hits

if TYPE_CHECKING:
    from protosonic.campaign.records import PilotRecord, Plan
    from protosonic.config import Settings

__all__ = ["print_pilot"]


def print_pilot(record: PilotRecord, settings: Settings, plan: Plan) -> None:
    """Print the partitions of a pilot, and what follows for the rest."""
    console = Console(highlight=False)
    table = Table("partition", "file", "events done", "hits", "preprocess s", "infer s", "MB")
    for partition in record.partitions:
        memory = [mb for mb in (partition.preprocess_mem_mb, partition.infer_mem_mb) if mb is not None]
        table.add_row(
            partition.id,
            escape(partition.path),
            f"{partition.events_done} of {partition.events}",
            f"{partition.hits:,}",
            f"{partition.preprocess_seconds:.1f}",
            f"{partition.infer_seconds:.1f}",
            f"{max(memory):.0f}" if memory else "",
        )
    console.print()
    console.print(table)
    console.print(f"{record.failed_fraction:.1%} of the events of the pilot are not done")
    if not record.seconds_per_hit:
        console.print("No hit was scored, so the rest is cut as the configuration says")
        return
    hits = sum(partition.hits for partition in plan.partitions)
    console.print(
        f"{1e3 * record.seconds_per_hit:.3g} ms a hit; all {hits:,} hits take "
        f"{hits * record.seconds_per_hit / 3600:.2g} hours of one job; {settings.partition.target_minutes:g} minutes "
        f"are {target_hits(settings, record):,} hits, as far as a file has them",
        soft_wrap=True,
    )
