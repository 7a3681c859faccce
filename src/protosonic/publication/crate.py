"""The RO-Crate of a publication: ``ro-crate-metadata.json`` after RO-Crate 1.1 and Workflow Run Crate 0.5.

It is written by hand, because the whole of it is one JSON document of a fixed form; tests read it with the reference
library.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from protosonic.publication.files import PublishedFile

__all__ = ["WORKFLOW", "crate_metadata"]

WORKFLOW = "workflow/Snakefile"
NO_LICENSE = "No licence of this dataset was stated."
_PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
_FORMATS = {
    ".parquet": "application/vnd.apache.parquet",
    ".json": "application/json",
    ".html": "text/html",
    ".h5": "application/x-hdf5",
    ".hdf5": "application/x-hdf5",
    ".sh": "application/x-sh",
    ".tsv": "text/tab-separated-values",
}


def crate_metadata(
    campaign: Mapping[str, Any],
    files: Iterable[PublishedFile],
    *,
    published: str,
    started: str | None = None,
    ended: str | None = None,
    license_text: str | None = None,
) -> dict[str, Any]:
    """Describe a publication.

    Parameters
    ----------
    campaign
        Content of ``campaign.json``.
    files
        All files of the publication but the description itself; the workflow is :data:`WORKFLOW`.
    published
        ISO 8601.
    started, ended
        Of the last run, where it is known.
    license_text
        URL or name of the licence of the dataset.
    """
    provenance, totals = campaign["provenance"], campaign["totals"]
    name = provenance["campaign"]
    version = provenance["package"]["version"]
    listed = {file.path: file for file in files}
    inputs = [_input(entry) for entry in provenance["inputs"] if entry["sha256"]]
    results = [{"@id": path} for path in listed if path.startswith("hits/") or path in _RESULTS]
    action: dict[str, Any] = {
        "@id": "#campaign",
        "@type": "CreateAction",
        "name": f"Campaign {name}",
        "description": "The workflow read the input files, scored their hits and merged the scores.",
        "actionStatus": "http://schema.org/CompletedActionStatus",
        "instrument": {"@id": WORKFLOW},
        "object": [{"@id": entity["@id"]} for entity in inputs] + [{"@id": "#model"}],
        "result": results,
    }
    action |= {key: value for key, value in (("startTime", started), ("endTime", ended)) if value}
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Hit classification of campaign {name}",
        "description": f"{totals['hits_done']} classified hits of {totals['events_done']} events; "
        f"{totals['events_quarantined']} of {totals['events_planned']} planned events are quarantined.",
        "datePublished": published,
        "license": {"@id": license_text} if _is_url(license_text) else license_text or NO_LICENSE,
        "conformsTo": [{"@id": profile} for profile in _PROFILES],
        "mainEntity": {"@id": WORKFLOW},
        "mentions": {"@id": "#campaign"},
        "hasPart": [{"@id": path} for path in listed],
    }
    graph = [
        {
            "@id": "ro-crate-metadata.json",
            "@type": "CreativeWork",
            "conformsTo": [
                {"@id": "https://w3id.org/ro/crate/1.1"},
                {"@id": "https://w3id.org/workflowhub/workflow-ro-crate/1.0"},
            ],
            "about": {"@id": "./"},
        },
        root,
        *(
            {"@id": profile, "@type": "CreativeWork", "name": title, "version": number}
            for profile, (title, number) in _PROFILES.items()
        ),
        *_licenses(license_text),
        *(_file(file) for path, file in listed.items() if path != WORKFLOW),
        _workflow(listed[WORKFLOW], version),
        {
            "@id": "https://w3id.org/workflowhub/workflow-ro-crate#snakemake",
            "@type": "ComputerLanguage",
            "name": "Snakemake",
            "alternateName": "SMK",
            "identifier": {"@id": "https://snakemake.github.io"},
            "url": {"@id": "https://snakemake.github.io"},
            "version": provenance["libraries"]["snakemake"],
        },
        *inputs,
        {
            "@id": "#model",
            "@type": "CreativeWork",
            "name": provenance["model"]["name"],
            "version": provenance["model"]["version"],
            "identifier": f"sha256:{provenance['model']['sha256']}",
            "description": "The network that gave the scores.",
        },
        action,
    ]
    return {"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": graph}


_RESULTS = {"accounting.parquet", "campaign.json", "report.html"}


def _is_url(text: str | None) -> bool:
    return bool(text) and str(text).startswith(("http://", "https://"))


def _licenses(text: str | None) -> list[dict[str, Any]]:
    if not _is_url(text):
        return []
    return [{"@id": text, "@type": "CreativeWork", "name": text, "description": "Licence of the dataset."}]


def _file(file: PublishedFile) -> dict[str, Any]:
    path = PurePosixPath(file.path)
    return {
        "@id": file.path,
        "@type": "File",
        "name": path.name,
        "contentSize": str(file.size),
        "encodingFormat": _FORMATS.get(path.suffix, "text/plain"),
        "identifier": f"sha256:{file.sha256}",
    }


def _workflow(file: PublishedFile, version: str) -> dict[str, Any]:
    return _file(file) | {
        "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
        "name": "protosonic",
        "version": version,
        "conformsTo": {"@id": "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"},
        "programmingLanguage": {"@id": "https://w3id.org/workflowhub/workflow-ro-crate#snakemake"},
    }


def _input(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Describe an input file, which stays where it is: it is named by its content."""
    path = PurePosixPath(entry["file"])
    return {
        "@id": f"urn:sha256:{entry['sha256']}",
        "@type": "CreativeWork",
        "name": path.name,
        "alternateName": entry["file"],
        "identifier": f"sha256:{entry['sha256']}",
        "size": str(entry["size"]),
        "encodingFormat": _FORMATS.get(path.suffix, "application/octet-stream"),
    }
