"""``protosonic publish``: a finished dataset → a folder that catalogs and archives can take.

Three phases, each of which can be killed and repeated: the files are *written* into a hidden folder beside the target, what was
written is *verified* by reading it again, then the publication is *declared*: described, and renamed to its final name. Under
that name there is never anything but a whole publication.
"""

from __future__ import annotations

import fcntl
import json
import logging
import shutil
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import yaml

from protosonic.campaign.acceptance import check_acceptance
from protosonic.campaign.last_run import timestamp
from protosonic.campaign.launch import workflow_folder
from protosonic.campaign.provenance import read_campaign
from protosonic.campaign.records import RunRecord, read_record
from protosonic.campaign.state import read_state
from protosonic.dataset.verification import verify_dataset
from protosonic.errors import ConfigError, TransientError, VerificationError
from protosonic.publication.crate import WORKFLOW
from protosonic.publication.description import PublishOptions, describe_publication
from protosonic.publication.files import PublishedFile, checksums, copy_file
from protosonic.publish import fsync_path, publish_json, sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from protosonic.campaign.layout import Layout

__all__ = ["Publication", "publish_campaign", "read_fields"]

log = logging.getLogger(__name__)

RECORD = "publication.json"
FINISHED = {"complete", "closed", "published"}


@dataclass(frozen=True)
class Publication:
    """What was published.

    Attributes
    ----------
    folder
        Where.
    files, size
        Number of files of the dataset, and bytes of them.
    missing
        Fields that DUNE's MetaCat requires and that nobody gave.
    is_new
        Whether it was not there before, or was described in another way.
    """

    folder: Path
    files: int
    size: int
    missing: tuple[str, ...]
    is_new: bool


def read_fields(path: Path | None) -> dict[str, Any]:
    """Read more MetaCat fields from a YAML or JSON file.

    Raises
    ------
    ConfigError
        It cannot be read, or is no mapping of fields with a dot in their names.
    """
    if path is None:
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError("the metadata cannot be read", file=path, found=str(error)) from error
    if not isinstance(content, dict) or not all(isinstance(key, str) and "." in key for key in content):
        raise ConfigError(
            "this is no MetaCat metadata",
            file=path,
            expected="a mapping such as core.file_type: mc",
            found=type(content).__name__ if not isinstance(content, dict) else ", ".join(map(str, content)),
        )
    return content


def publish_campaign(layout: Layout, to: Path, options: PublishOptions) -> Publication:
    """Publish the dataset of a finished campaign as ``<to>/<campaign>/``.

    Parameters
    ----------
    layout
        The campaign.
    to
        Folder of publications; it may be on another file system.
    options
        How it is declared.

    Raises
    ------
    ConfigError
        The campaign is not finished, or another dataset was published under its name.
    AcceptanceError
        More events are quarantined than accepted.
    VerificationError
        What was written is not the dataset.
    TransientError
        Something else is publishing it.
    """
    state = read_state(layout)
    if state.state not in FINISHED:
        raise ConfigError(
            f"the campaign is {state.state}, so it has no dataset to publish",
            file=layout.work,
            hint="'protosonic status' says what is missing",
        )
    campaign = read_campaign(layout)
    check_acceptance(campaign)
    digest = sha256_of(layout.campaign)
    target, staging = to / layout.name, to / f".{layout.name}.publishing"
    to.mkdir(parents=True, exist_ok=True)
    with _only_publisher(to / f".{layout.name}.lock"):
        before = _published(target, digest) if target.exists() else None
        if before is None or before["options"] != _as_json(options):
            _begin(staging, digest)
            if before is not None:
                _link(target, staging, before)
            files = _write(layout, campaign, staging)
            _verify(staging, files)
            _declare(layout, campaign, staging, files, options)
            _expose(staging, target)
        record = _published(target, digest)
    publish_json(
        layout.published, {"to": str(target.resolve()), "campaign_sha256": digest, "published": timestamp()}
    )
    return Publication(
        target,
        len(record["files"]),
        sum(file["size"] for file in record["files"]),
        tuple(record["missing_metadata"]),
        record != before,
    )


def _as_json(options: PublishOptions) -> Any:
    return json.loads(json.dumps(asdict(options), default=str))


def _begin(staging: Path, digest: str) -> None:
    """Go on with what was begun of this dataset, and throw away what was begun of another."""
    record = staging / RECORD
    if staging.exists():
        try:
            begun = json.loads(record.read_text(encoding="utf-8"))["campaign_sha256"]
        except (OSError, ValueError, KeyError):
            begun = None
        if begun != digest:
            shutil.rmtree(staging)
    staging.mkdir(exist_ok=True)
    if not record.exists():
        publish_json(record, {"campaign_sha256": digest, "phase": "begun"})


def _link(target: Path, staging: Path, record: Mapping[str, Any]) -> None:
    """Take the data of a publication that is described anew; it is not copied again."""
    for file in record["files"]:
        link = staging / file["path"]
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.hardlink_to(target / file["path"])


def _expose(staging: Path, target: Path) -> None:
    """Give a whole publication its final name.

    One that is replaced is away for a moment. If this is killed then, the next call finds what it put aside and goes on.
    """
    aside = target.with_name(f".{target.name}.replaced")
    if aside.exists():
        shutil.rmtree(aside)
    if target.exists():
        target.replace(aside)
    staging.replace(target)
    fsync_path(target.parent)
    if aside.exists():
        shutil.rmtree(aside)


def _write(layout: Layout, campaign: Mapping[str, Any], staging: Path) -> list[PublishedFile]:
    """Phase 1: copy the dataset; files that are there already are read instead."""
    dataset = campaign["dataset"]
    expected = {entry["file"]: entry["sha256"] for entry in [*dataset["files"], dataset["accounting"]]}
    expected[layout.campaign.name] = sha256_of(layout.campaign)
    sources = {path: layout.results / path for path in expected}
    sources |= {path.name: path for path in (layout.campaign, layout.report) if path.exists()}
    root = workflow_folder()
    for path in [root / WORKFLOW, *sorted((root / "rules").glob("*.smk"))]:
        sources[path.relative_to(root).as_posix()] = path
    files = []
    for path, source in sources.items():
        file = None
        if (staging / path).exists():
            file = checksums(staging, path)
        if file is None or file.sha256 != expected.get(path, file.sha256):
            file = copy_file(source, staging, path)
        if file.sha256 != expected.get(path, file.sha256):
            raise VerificationError(
                "the file is not the one that was merged",
                file=source,
                expected=expected[path],
                found=file.sha256,
                hint="Run 'protosonic verify'",
            )
        files.append(file)
        log.info("written: %s", path)
    _set_phase(staging, "written")
    return files


def _verify(staging: Path, files: Sequence[PublishedFile]) -> None:
    """Phase 2: read everything that was written again."""
    for file in files:
        if checksums(staging, file.path) != file:
            raise VerificationError("the copy is damaged", file=staging / file.path, expected=file.sha256)
    problems = verify_dataset(staging)
    if problems:
        raise VerificationError(
            f"the copy is not a whole dataset: {problems[0]}", file=staging, found=f"{len(problems)} problems"
        )
    _set_phase(staging, "verified")


def _declare(
    layout: Layout,
    campaign: Mapping[str, Any],
    staging: Path,
    files: Sequence[PublishedFile],
    options: PublishOptions,
) -> None:
    """Phase 3: describe the files for catalogs; what is renamed after it is whole."""
    now, digest = timestamp(), sha256_of(layout.campaign)
    run = read_record(layout.last_run, RunRecord) if layout.last_run.exists() else None
    missing = describe_publication(
        staging,
        campaign,
        files,
        options,
        digest=digest,
        published=now,
        started=run.started if run else None,
        ended=run.ended if run else None,
    )
    publish_json(
        staging / RECORD,
        {
            "campaign_sha256": digest,
            "phase": "declared",
            "published": now,
            "dataset": f"{options.namespace}:{layout.name}",
            "options": _as_json(options),
            "missing_metadata": missing,
            "files": [file._asdict() for file in files],
        },
    )
    fsync_path(staging)


def _published(target: Path, digest: str) -> dict[str, Any]:
    """Read the record of what lies under the final name, and check that it is this dataset and whole.

    Raises
    ------
    ConfigError
        It is something else.
    VerificationError
        A file is missing or has another size; ``protosonic publish`` does not mend that by itself.
    """
    try:
        record: dict[str, Any] = json.loads((target / RECORD).read_text(encoding="utf-8"))
        files = [PublishedFile(**entry) for entry in record["files"]]
        published = record["campaign_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            "this folder is no publication of protosonic",
            file=target,
            found=str(error),
            hint="Publish to another folder",
        ) from error
    if published != digest:
        raise ConfigError(
            "another dataset was published under this name, and published data does not change",
            file=target,
            hint="Publish to another folder, or name the campaign anew",
        )
    for file in files:
        path = target / file.path
        if not path.is_file() or path.stat().st_size != file.size:
            raise VerificationError(
                "a published file is missing or was cut",
                file=path,
                expected=f"{file.size} bytes",
                hint="Remove the folder and publish again",
            )
    return record


def _set_phase(staging: Path, phase: str) -> None:
    record = json.loads((staging / RECORD).read_text(encoding="utf-8"))
    publish_json(staging / RECORD, record | {"phase": phase})


@contextmanager
def _only_publisher(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TransientError(
                "something else is publishing this campaign", file=path, hint="Wait for it, or stop it first"
            ) from error
        yield
