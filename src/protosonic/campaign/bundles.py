"""Bundles: runs of partitions whose scores are merged first, so that no job of a large campaign has many inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["bundles_of"]

MOST = 2
"""Largest bundle, in units of the mean; campaigns of no more partitions need none."""


def bundles_of(partitions: Sequence[str], mean: int) -> dict[str, list[str]]:
    """Cut the partitions of a campaign into bundles.

    A bundle starts at a partition whose name says so, and is named after it: adding a file changes the bundles around
    it and no other.

    Parameters
    ----------
    partitions
        Their names (16 hexadecimal digits), in the order of the plan.
    mean
        Partitions in a bundle, on average.

    Returns
    -------
    Name → partitions, in order; empty for a campaign that needs none.
    """
    if len(partitions) <= MOST * mean:
        return {}
    bundles: list[list[str]] = []
    for partition in partitions:
        if not bundles or len(bundles[-1]) == MOST * mean or int(partition, 16) % mean == 0:
            bundles.append([])
        bundles[-1].append(partition)
    return {bundle[0]: bundle for bundle in bundles}
