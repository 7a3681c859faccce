"""``protosonic verify``: a finished campaign against its dataset, its records and, on request, its inputs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from protosonic.campaign.partitioning import selected_hits
from protosonic.campaign.records import CatalogBlock, Plan, read_record
from protosonic.config import Remote
from protosonic.dataset.verification import verify_dataset
from protosonic.errors import ProtosonicError
from protosonic.events.model import EventId
from protosonic.publish import sha256_of
from protosonic.remote.urls import is_url
from protosonic.stages.input_files import fetcher_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from protosonic.campaign.layout import Layout
    from protosonic.remote.fetch import Fetcher

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
    provenance = json.loads(layout.campaign.read_text())["provenance"]
    remote = Remote.model_validate(provenance["settings"].get("remote", {}))
    with fetcher_for(remote) as fetcher:
        for entry in provenance["inputs"]:
            if not entry["sha256"]:
                continue
            try:
                sha256 = _checksum(layout, entry["file"], fetcher)
            except (OSError, ProtosonicError) as error:
                reason = (
                    error.strerror if isinstance(error, OSError) else error.message
                )  # the file is named before
                yield f"{entry['file']}: the input file cannot be read: {reason}"
            else:
                if sha256 != entry["sha256"]:
                    yield f"{entry['file']}: the input file is no longer the one that was processed"


def _checksum(layout: Layout, file: str, fetcher: Fetcher) -> str:
    if is_url(file):
        with fetcher.copy(file) as copy:
            return copy.sha256
    # Paths are relative to the working directory of the campaign.
    return sha256_of(layout.workdir / file)
