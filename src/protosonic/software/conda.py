"""The conda environment that the rules name, with the versions that the tests ran with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml
from packaging.utils import canonicalize_name

from protosonic import __version__
from protosonic.errors import ConfigError
from protosonic.software.python_checks import PACKAGE, needed_distributions, read_pins

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["conda_environment"]

PYTHON = "3.11"
HEAD = """\
# The environment that rules ask for with --software-deployment-method conda (docs/software.md#conda).
# Generated from envs/constraints.txt: make generated
"""


def conda_environment(constraints: Path) -> str:
    """Give the text of the environment file.

    Snakemake copies the file before it is used, so that it cannot refer to another file beside it.

    Parameters
    ----------
    constraints
        The file of pinned versions, ``envs/constraints.txt``.

    Raises
    ------
    ConfigError
        A package that is needed has no pinned version.
    """
    pins = read_pins(constraints)
    wanted = {canonicalize_name(need.name) for need, _ in needed_distributions([f"{PACKAGE}[report]"])}
    names = sorted(wanted - {PACKAGE})
    # pip and setuptools belong to Python.
    unpinned = [name for name in names if name not in pins and name not in {"pip", "setuptools"}]
    if unpinned:
        raise ConfigError(
            "packages have no pinned version",
            file=constraints,
            found=", ".join(unpinned),
            hint="make constraints",
        )
    packages = [f"{PACKAGE}=={__version__}", *(f"{name}=={pins[name]}" for name in names if name in pins)]
    content = {
        "channels": ["conda-forge", "nodefaults"],
        "dependencies": [f"python={PYTHON}", "pip", {"pip": packages}],
    }
    return HEAD + yaml.safe_dump(content, sort_keys=False)
