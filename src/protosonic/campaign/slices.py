"""Slices: parts of a very large campaign that Snakemake sees one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protosonic.campaign.bundles import bundles_of

if TYPE_CHECKING:
    from protosonic.campaign.records import Plan
    from protosonic.config import Settings

__all__ = ["RULES_AFTER_SLICES", "slices_of"]

RULES_AFTER_SLICES = ("catalog", "partition", "model", "merge", "report", "accept", "all")
"""When all bundles are there Snakemake must not look behind them: its graph would hold every partition again."""


def slices_of(plan: Plan, settings: Settings) -> list[list[str]]:
    """Cut a campaign into slices.

    Snakemake's memory and the time until its first job grow with the number of jobs that it knows of.

    Returns
    -------
    The bundles of each slice, whose partitions are no more than ``partition.most_at_once`` (where a bundle alone has
    more, it is a slice of its own); empty for a campaign that needs none.
    """
    if len(plan.partitions) <= settings.partition.most_at_once:
        return []
    slices: list[list[str]] = []
    size = 0
    for name, partitions in bundles_of(
        [partition.id for partition in plan.partitions], settings.merge.bundle_partitions
    ).items():
        if not slices or size + len(partitions) > settings.partition.most_at_once:
            slices.append([])
            size = 0
        slices[-1].append(name)
        size += len(partitions)
    return slices
