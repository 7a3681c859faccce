"""The interpreter and its packages."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from protosonic.software.check import Check, fail, ok, warn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["check_encoding", "check_packages", "check_python", "needed_distributions", "read_pins"]

PACKAGE = "protosonic"
MOST_NAMED = 6


def check_python() -> Check:
    """Look at the version of Python."""
    found = f"Python {platform.python_version()} at {sys.executable}"
    wanted = metadata.metadata(PACKAGE)["Requires-Python"]
    if platform.python_version() not in SpecifierSet(wanted or "", prereleases=True):
        return fail("python", found, f"Use a Python {wanted}")
    return ok("python", found)


def check_packages(constraints: Path) -> Check:
    """Compare the installed packages with what the code needs and with the versions that the tests ran with.

    Parameters
    ----------
    constraints
        The file of pinned versions, ``envs/constraints.txt``.
    """
    missing, other = [], []
    pins = read_pins(constraints)
    needed = needed_distributions([PACKAGE])
    for requirement, distribution in needed:
        if distribution is None:
            missing.append(f"{requirement} is not installed")
        elif distribution.version not in requirement.specifier:
            missing.append(f"{requirement} is installed as {distribution.version}")
        elif pins.get(canonicalize_name(requirement.name), distribution.version) != distribution.version:
            pin = pins[canonicalize_name(requirement.name)]
            other.append(f"{requirement.name} {distribution.version} (tested: {pin})")
    if missing:
        return fail(
            "packages", _some(sorted(set(missing))), f"pip install --constraint {constraints} {PACKAGE}"
        )
    names = {canonicalize_name(requirement.name) for requirement, _ in needed}
    if other:
        return warn(
            "packages",
            f"other versions than the tests ran with: {_some(sorted(set(other)))}",
            f"Not wrong by itself; for the tested ones: pip install --constraint {constraints} {PACKAGE}",
        )
    return ok("packages", f"{len(names)} packages are there in the versions that the tests ran with")


def check_encoding() -> Check:
    """Look whether names of files and text are UTF-8."""
    encoding = sys.getfilesystemencoding()
    if encoding.lower() != "utf-8":
        return fail(
            "locale",
            f"names of files are {encoding} here",
            "Set LC_ALL=C.UTF-8, or PYTHONUTF8=1, where jobs start",
        )
    return ok("locale", "UTF-8")


def read_pins(constraints: Path) -> dict[str, str]:
    """Read a file of lines ``name==version``."""
    lines = constraints.read_text(encoding="utf-8").splitlines() if constraints.is_file() else []
    pins = (line.partition("==") for line in lines if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name.strip()): version.strip() for name, _, version in pins}


def needed_distributions(
    names: Iterable[str],
) -> list[tuple[Requirement, metadata.Distribution | None]]:
    """List what packages need here, directly and through others, with what is installed of it.

    Parameters
    ----------
    names
        Requirements, such as ``protosonic[report]``.
    """
    found: list[tuple[Requirement, metadata.Distribution | None]] = []
    seen: set[tuple[str, str, frozenset[str]]] = set()
    queue = [Requirement(name) for name in names]
    while queue:
        requirement = queue.pop()
        key = (canonicalize_name(requirement.name), str(requirement.specifier), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            distribution = metadata.distribution(requirement.name)
        except metadata.PackageNotFoundError:
            found.append((requirement, None))
            continue
        found.append((requirement, distribution))
        queue += _applicable(distribution, requirement.extras)
    return found


def _applicable(distribution: metadata.Distribution, extras: set[str]) -> Iterator[Requirement]:
    for text in distribution.requires or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def _some(items: list[str]) -> str:
    more = len(items) - MOST_NAMED
    return ", ".join(items[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
