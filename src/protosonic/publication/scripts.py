"""Shell scripts of a publication: declaring it to catalogs, and running such a campaign under justIN."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from protosonic import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["declare_script", "justin_jobscript"]


def _environment() -> Environment:
    # Nothing here is HTML; what goes into a shell is quoted for a shell.
    environment = Environment(
        loader=PackageLoader("protosonic.publication"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        autoescape=False,  # noqa: S701
    )
    environment.filters["quoted"] = shlex.quote
    return environment


def declare_script(
    *, namespace: str, dataset: str, files: Sequence[tuple[str, str]], missing: Sequence[str]
) -> str:
    """Write the command lines that declare a publication to MetaCat and put it into Rucio.

    Parameters
    ----------
    namespace, dataset
        Where in the catalogs.
    files
        Name in the catalog and path of each file.
    missing
        Fields that DUNE's MetaCat requires and nobody gave; the script refuses to run then.
    """
    template = _environment().get_template("declare.sh")
    return template.render(
        version=__version__, namespace=namespace, dataset=dataset, files=files, missing=missing
    )


def justin_jobscript(settings: Mapping[str, Any], namespace: str, metadata: Mapping[str, Any]) -> str:
    """Write a job script for justIN that does to other files what the campaign did to its inputs.

    Parameters
    ----------
    settings
        The configuration of the campaign; its first entry of ``inputs`` says how files are read.
    namespace
        Of the outputs.
    metadata
        More MetaCat fields of the outputs.
    """
    content = json.loads(json.dumps(settings))
    content["inputs"] = [content["inputs"][0] | {"path": "inputs/*"}]
    return (
        _environment()
        .get_template("justin.jobscript")
        .render(
            version=__version__,
            namespace=namespace,
            campaign=content["campaign"]["name"],
            settings=json.dumps(content, indent=1, sort_keys=True),
            metadata=json.dumps(dict(metadata), indent=1, sort_keys=True),
            model=content["model"]["path"],
        )
    )
