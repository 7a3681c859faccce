"""Descriptions of files as DUNE's MetaCat wants them.

The form is that of ``metacat file declare-many`` (MetaCat's documentation of its command line); the fields are those of
DUNE's metadata specification (DUNE/MetaCatch, ``config/keys.yaml``).
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from protosonic.publication.contents import FileContents
    from protosonic.publication.files import PublishedFile

__all__ = ["REQUIRED", "campaign_fields", "describe_file", "did_name"]

REQUIRED = (
    "core.data_stream",
    "core.data_tier",
    "core.event_count",
    "core.file_content_status",
    "core.file_format",
    "core.file_type",
    "core.run_type",
    "core.runs",
    "core.runs_subruns",
    "retention.class",
    "retention.status",
)
"""What DUNE asks of every file."""

RUN_TYPES = {
    "protodune-sp": "protodune-sp",
    "protodune-hd": "hd-protodune",
    "protodune-vd": "vd-protodune",
    "dune10kt-1x2x6": "fardet-hd",
}
"""``core.run_type`` of the detectors that are DUNE's."""
_SUBRUN_FACTOR = 100_000


def did_name(campaign: str, digest: str, path: str) -> str:
    """Name a file in catalogs, where names are unique within a namespace.

    Parameters
    ----------
    campaign
        Name of the campaign.
    digest
        SHA-256 of its ``campaign.json``.
    path
        Of the file, in the publication.
    """
    return f"{campaign}-{digest[:8]}-{PurePosixPath(path).name}"


def campaign_fields(campaign: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Give the fields that all files of a campaign share.

    Parameters
    ----------
    campaign
        Content of ``campaign.json``.
    more
        Fields of the operator, which win: a dataset does not know whether it is data or simulation.
    """
    provenance = campaign["provenance"]
    detectors = {entry["detector"] for entry in provenance["inputs"] if entry["detector"]}
    run_types = {RUN_TYPES[name] for name in detectors if name in RUN_TYPES}
    fields: dict[str, Any] = {
        "core.application": "protosonic.classify",
        "core.application.family": "protosonic",
        "core.application.name": "classify",
        "core.application.version": provenance["package"]["version"],
        "core.data_tier": "hit-reconstructed",
        "core.file_content_status": "good",
        "core.file_format": "parquet",
        "dune.campaign": provenance["campaign"],
        "dune.output_status": "confirmed",
        "retention.class": "unknown",
        "retention.status": "active",
        "protosonic.model_sha256": provenance["model"]["sha256"],
        "protosonic.model_name": provenance["model"]["name"],
        "protosonic.preprocessing_profile": provenance["settings"]["preprocess"]["profile"],
    }
    if len(run_types) == 1:
        fields["core.run_type"] = run_types.pop()
    return fields | dict(more)


def describe_file(
    file: PublishedFile,
    contents: FileContents,
    *,
    name: str,
    namespace: str,
    fields: Mapping[str, Any],
    parents: Mapping[str, str],
    parent_namespace: str,
) -> dict[str, Any]:
    """Describe a file.

    Parameters
    ----------
    file, contents
        The file and what it holds.
    name, namespace
        Its name in the catalog.
    fields
        What :func:`campaign_fields` gives.
    parents
        Input files by their ``file_id``; a parent is declared under the name of its file.
    parent_namespace
        Where the input files are declared.
    """
    events = [event for _, _, event in contents.events]
    own = {
        "core.event_count": len(events),
        "core.runs": sorted({run for run, _, _ in contents.events}),
        "core.runs_subruns": [run * _SUBRUN_FACTOR + subrun for run, subrun in contents.subruns],
    }
    if events:
        own |= {"core.first_event_number": min(events), "core.last_event_number": max(events)}
    return {
        "namespace": namespace,
        "name": name,
        "size": file.size,
        "checksums": {"adler32": file.adler32, "sha256": file.sha256},
        "metadata": dict(sorted((own | dict(fields)).items())),
        "parents": [
            {"did": f"{parent_namespace}:{PurePosixPath(parents[file_id]).name}"}
            for file_id in contents.file_ids
            if file_id in parents
        ],
    }
