"""What was run and with what: the facts that make a campaign repeatable."""

from __future__ import annotations

import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protosonic import __version__
from protosonic.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from protosonic.campaign.layout import Layout
    from protosonic.campaign.records import FileRecord, ModelRecord, PartitionStatus
    from protosonic.config import Settings

__all__ = ["campaign_provenance", "package_commit", "read_campaign"]

_LIBRARIES = ("numpy", "h5py", "pyarrow", "onnxruntime", "tritonclient", "snakemake")


def read_campaign(layout: Layout) -> dict[str, Any]:
    """Read the ``campaign.json`` of a finished campaign.

    Raises
    ------
    VerificationError
        It is missing or damaged.
    """
    return read_campaign_file(layout.campaign)


def read_campaign_file(path: Path) -> dict[str, Any]:
    """Read a ``campaign.json`` wherever it lies; raises as :func:`read_campaign`."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VerificationError(
            "cannot be read", file=path, found=str(error), hint="Run the campaign again"
        ) from error
    return content


def package_commit() -> str | None:
    """Give the git commit of the checkout that the package runs from, with ``-dirty`` where it was changed."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def campaign_provenance(
    settings: Settings, model: ModelRecord, files: Iterable[FileRecord], statuses: Iterable[PartitionStatus]
) -> dict[str, Any]:
    """Collect the provenance of a campaign; no time and no host enters, so equal campaigns have equal provenance."""
    statuses = list(statuses)
    uses = [use for status in statuses for use in status.backends]
    return {
        "campaign": settings.campaign.name,
        "package": {"name": "protosonic", "version": __version__, "commit": package_commit()},
        "libraries": {name: metadata.version(name) for name in _LIBRARIES},
        "python": platform.python_version(),
        "settings": settings.model_dump(mode="json"),
        "model": model.model_dump(exclude={"version"})
        | {"name": settings.model.name, "version": settings.model.version},
        "preprocessing": statuses[0].profile if statuses else None,
        "served_model_versions": sorted(
            {version for use in uses for version in use.model_versions if use.hits}
        ),
        "endpoints": sorted({use.endpoint for use in uses if use.endpoint and use.hits}),
        "inputs": [
            {
                "file": file.path,
                "file_id": file.file_id,
                "sha256": file.sha256,
                "size": file.size,
                "format": file.format,
                "detector": file.detector,
                "events": len(file.events),
                "reason": file.reason,
                "warnings": list(file.warnings),
            }
            for file in sorted(files, key=lambda record: record.path)
        ],
    }
