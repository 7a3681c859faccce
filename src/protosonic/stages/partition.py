"""Stage ``partition``: all records → one descriptor per partition, and the plan."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from protosonic.campaign.partitioning import make_partitions
from protosonic.campaign.records import CatalogBlock, PilotRecord, read_record, write_record
from protosonic.publish import publish_folder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from protosonic.campaign.records import Plan
    from protosonic.config import Settings

__all__ = ["partition_campaign"]

log = logging.getLogger(__name__)


def partition_campaign(
    catalog: Iterable[Path],
    settings: Settings,
    descriptors: Path,
    plan_file: Path,
    pilot_file: Path | None = None,
) -> Plan:
    """Write the descriptor of every partition and the plan.

    Parameters
    ----------
    catalog
        The catalog's block files.
    settings
        The configuration.
    descriptors
        Folder that will hold ``<partition id>.json``.
    plan_file
        JSON file of the plan.
    pilot_file
        JSON file of what the pilot measured, where there was one.
    """
    blocks = list(catalog)
    files = [record for block in blocks for record in read_record(block, CatalogBlock).files]
    pilot = None if pilot_file is None else read_record(pilot_file, PilotRecord)
    partitions, plan = make_partitions(files, settings, [block.name for block in blocks], pilot)
    with publish_folder(descriptors) as folder:
        for partition in partitions:
            (folder / f"{partition.id}.json").write_text(
                partition.model_dump_json(indent=1) + "\n", encoding="utf-8"
            )
    write_record(plan_file, plan)
    for refused in plan.refused:
        log.warning("%s entry %d: refused: %s", refused.path, refused.entry, refused.reason)
    log.info(
        "%d files: %d partitions with %d hits; %d events and %d files refused",
        len(files),
        len(partitions),
        sum(partition.hits for partition in partitions),
        len(plan.refused),
        len(plan.refused_files),
    )
    return plan
