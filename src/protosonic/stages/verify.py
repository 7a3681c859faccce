"""``protosonic verify``: a finished campaign against its dataset, its records and, on request, its inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from protosonic.campaign.partitioning import selected_hits
from protosonic.campaign.records import CatalogBlock, Plan, read_record
from protosonic.dataset.verification import verify_dataset
from protosonic.errors import ProtosonicError
from protosonic.events.model import EventId
from protosonic.publish import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from protosonic.campaign.layout import Layout

__all__ = ["verify_campaign"]

Place = tuple[str, int]
"""A file and the position of an event in it; -1 for a whole file."""


def verify_campaign(layout: Layout, *, inputs: bool = False) -> list[str]:
    """List everything that is wrong with a finished campaign.

    Parameters
    ----------
    layout
        The campaign.
    inputs
        Also read the input files again and compare their checksums.

    Returns
    -------
    One line per problem; empty when the campaign is proven to be whole.
    """
    problems = verify_dataset(layout.results)
    if not problems and layout.plan.exists():
        problems += _check_plan(layout)
    if not problems and inputs:
        problems += _check_inputs(layout)
    return problems


def _check_plan(layout: Layout) -> Iterator[str]:
    """Compare the accounting with the catalog: nothing may vanish between planning and merging."""
    try:
        plan = read_record(layout.plan, Plan)
        files = [
            file for name in plan.catalog for file in read_record(layout.catalog / name, CatalogBlock).files
        ]
    except ProtosonicError as error:
        yield str(error)
        return
    planes = tuple(json.loads(layout.campaign.read_text())["provenance"]["settings"]["preprocess"]["planes"])
    planned: dict[Place, str] = {}
    for file in files:
        if file.reason is not None:
            planned[file.path, -1] = "the whole file"
        for event in file.events:
            planned[file.path, event.entry] = f"{event.id} with {selected_hits(event, planes)} hits"
    accounted: dict[Place, str] = {}
    for row in pq.read_table(layout.accounting).to_pylist():
        if row["entry"] is None:
            accounted[row["file"], -1] = "the whole file"
        else:
            event_id = EventId(row["run"], row["subrun"], row["event"])
            accounted[row["file"], row["entry"]] = f"{event_id} with {row['hits_planned']} hits"
    for place in sorted(planned.keys() | accounted.keys()):
        expected, found = planned.get(place, "nothing"), accounted.get(place, "nothing")
        if found != expected:
            path, entry = place
            where = path if entry < 0 else f"{path} entry {entry}"
            yield f"{where}: the accounting has {found}, the catalog {expected}"


def _check_inputs(layout: Layout) -> Iterator[str]:
    campaign = json.loads(layout.campaign.read_text())
    for entry in campaign["provenance"]["inputs"]:
        # Paths are relative to the working directory of the campaign.
        path = layout.workdir / entry["file"]
        if not entry["sha256"]:
            continue
        try:
            if sha256_of(Path(path)) != entry["sha256"]:
                yield f"{entry['file']}: the input file is no longer the one that was processed"
        except OSError as error:
            yield f"{entry['file']}: the input file cannot be read: {error.strerror}"
