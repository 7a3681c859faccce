"""Everything that describes a publication to others: MetaCat, Rucio, justIN, RO-Crate."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from protosonic.publication.contents import file_contents
from protosonic.publication.crate import crate_metadata
from protosonic.publication.files import checksums
from protosonic.publication.metacat import REQUIRED, campaign_fields, describe_file, did_name
from protosonic.publication.scripts import declare_script, justin_jobscript
from protosonic.publish import publish_json, publish_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from protosonic.publication.files import PublishedFile

__all__ = ["PublishOptions", "describe_publication"]


@dataclass(frozen=True)
class PublishOptions:
    """How a dataset is declared.

    Attributes
    ----------
    namespace
        MetaCat namespace and Rucio scope.
    parent_namespace
        Where the input files are declared.
    fields
        More MetaCat fields of every file; they win over those that are known.
    license
        URL or name of the licence of the dataset.
    """

    namespace: str = "usertests"
    parent_namespace: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    license: str | None = None


def describe_publication(
    folder: Path,
    campaign: Mapping[str, Any],
    files: Sequence[PublishedFile],
    options: PublishOptions,
    *,
    digest: str,
    published: str,
    started: str | None = None,
    ended: str | None = None,
) -> list[str]:
    """Write the descriptions of a publication beside its files.

    Parameters
    ----------
    folder
        Of the publication.
    campaign
        Content of ``campaign.json``.
    files
        What was copied.
    options
        How it is declared.
    digest
        SHA-256 of ``campaign.json``.
    published, started, ended
        Times, ISO 8601: of the publication, and of the last run where it is known.

    Returns
    -------
    The fields that DUNE's MetaCat requires and that nobody gave.
    """
    name = campaign["provenance"]["campaign"]
    fields = campaign_fields(campaign, options.fields)
    parents = {entry["file_id"]: entry["file"] for entry in campaign["provenance"]["inputs"]}
    shutil.rmtree(folder / "metacat", ignore_errors=True)
    described = []
    for file in files:
        if file.path.endswith(".parquet"):
            description = describe_file(
                file,
                file_contents(folder / file.path),
                name=did_name(name, digest, file.path),
                namespace=options.namespace,
                fields=fields,
                parents=parents,
                parent_namespace=options.parent_namespace or options.namespace,
            )
            described.append((file, description))
            publish_json(folder / "metacat" / f"{description['name']}.json", description)
    missing = sorted(set(REQUIRED) - described[0][1]["metadata"].keys())
    names = [(description["name"], file.path) for file, description in described]
    settings = campaign["provenance"]["settings"]
    texts = {
        "names.tsv": "".join(f"{name}\t{path}\n" for name, path in names),
        "checksums.sha256": "".join(f"{file.sha256}  {file.path}\n" for file in files),
        "declare.sh": declare_script(namespace=options.namespace, dataset=name, files=names, missing=missing),
        "justin.jobscript": justin_jobscript(settings, options.namespace, options.fields),
    }
    for path, text in texts.items():
        publish_text(folder / path, text)
    publish_json(folder / "metacat.json", [description for _, description in described])
    publish_json(folder / "rucio.json", [_replica(file, description) for file, description in described])
    more = [*texts, "metacat.json", "rucio.json", *(f"metacat/{name}.json" for name, _ in names)]
    crate = crate_metadata(
        campaign,
        [*files, *(checksums(folder, path) for path in more)],
        published=published,
        started=started,
        ended=ended,
        license_text=options.license,
    )
    publish_json(folder / "ro-crate-metadata.json", crate)
    return missing


def _replica(file: PublishedFile, description: Mapping[str, Any]) -> dict[str, Any]:
    """Give a file as ``ReplicaClient.add_replicas`` of Rucio takes it, with its path in place of the PFN."""
    return {
        "scope": description["namespace"],
        "name": description["name"],
        "did": f"{description['namespace']}:{description['name']}",
        "bytes": file.size,
        "adler32": file.adler32,
        "path": file.path,
    }
