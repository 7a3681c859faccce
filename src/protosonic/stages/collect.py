"""Stage ``collect``: the scores and statuses of a bundle of partitions → one file of each."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from protosonic import __version__
from protosonic.campaign.bundles import bundles_of
from protosonic.campaign.records import Bundle, PartitionStatus, Plan, read_record, write_record
from protosonic.dataset.merge import EventRows, merged_events
from protosonic.dataset.scores import ScoresWriter
from protosonic.errors import ConfigError, VerificationError
from protosonic.publish import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from protosonic.campaign.layout import Layout
    from protosonic.config.model import Merge

__all__ = ["check_scores", "collect_bundle", "done_events", "read_scored"]

log = logging.getLogger(__name__)


def collect_bundle(layout: Layout, settings: Merge, name: str) -> Bundle:
    """Merge the scores of the partitions of a bundle into one file, and put their statuses together.

    Parameters
    ----------
    layout
        The campaign.
    settings
        The ``merge`` section of the configuration.
    name
        Name of the bundle.

    Raises
    ------
    ConfigError
        The plan has no such bundle.
    VerificationError
        The scores of a partition are not those that its status describes.
    """
    plan = read_record(layout.plan, Plan)
    bundles = bundles_of([partition.id for partition in plan.partitions], settings.bundle_partitions)
    if name not in bundles:
        raise ConfigError("the plan has no such bundle", file=layout.plan, where=name)
    events: list[EventRows] = []
    statuses = []
    for partition in bundles[name]:
        status = read_scored(layout, partition)
        statuses.append(status)
        events += done_events(status, layout.scores(partition))
    output = layout.bundle_scores(name)
    with ScoresWriter(output, {"bundle": name, "package_version": __version__}) as writer:
        for table in merged_events(events):
            writer.write(table)
    bundle = Bundle(statuses=tuple(statuses), scores_sha256=sha256_of(output), rows=writer.rows)
    write_record(layout.bundle(name), bundle)
    log.info("%d partitions, %d hits", len(statuses), writer.rows)
    return bundle


def read_scored(layout: Layout, partition: str) -> PartitionStatus:
    """Read the status of a partition, and check that its scores are those that it describes.

    Raises
    ------
    VerificationError
        They are not.
    """
    status = read_record(layout.status(partition), PartitionStatus)
    check_scores(layout.scores(partition), status.scores_sha256, status.rows)
    done = sum(event.hits_done for event in status.events)
    if done != status.rows:
        raise VerificationError(
            "the status counts other hits than the scores have rows",
            file=layout.status(partition),
            expected=status.rows,
            found=done,
        )
    return status


def check_scores(path: Path, sha256: str, rows: int) -> None:
    """Check that a file of scores is the one that a record describes.

    Raises
    ------
    VerificationError
        It is not.
    """
    if not path.is_file() or sha256_of(path) != sha256:
        raise VerificationError(
            "the scores are missing or not those that the status describes",
            file=path,
            hint="Remove the file and run the campaign again",
        )
    found = pq.read_metadata(path).num_rows
    if found != rows:
        raise VerificationError(
            "the scores have another number of rows", file=path, expected=rows, found=found
        )


def done_events(status: PartitionStatus, scores: Path) -> Iterator[EventRows]:
    """Give what a file of scores must hold of the events of a partition."""
    for event in status.events:
        if event.state == "done":
            yield EventRows(event.id, event.hits_done, scores)
