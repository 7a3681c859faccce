"""Python, protosonic and all packages in one archive that runs wherever it is unpacked.

For nodes without a fitting Python, without conda and without containers. What runs here is what is packed: the
interpreter with its libraries, and the files that the installed packages list. Virtual environments cannot be moved,
because they name the interpreter by its path; this is an installation of Python itself, which finds its own place.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from protosonic.errors import ConfigError
from protosonic.publish import publish_text
from protosonic.software.python_checks import PACKAGE, needed_distributions
from protosonic.software.shared_libraries import bundle_libraries, newest_glibc

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["RECORD", "pack_environment"]

log = logging.getLogger(__name__)

FOLDER = "protosonic"
"""What the archive unpacks to."""
RECORD = "environment.json"
"""What is in the archive: versions, and what it needs of a node."""
FIXED_TIME = 315532800
"""Of all files (1980-01-01), so that the same packages give the same archive."""
UNWANTED = shutil.ignore_patterns(
    *("__pycache__", "*.pyc", "site-packages", "dist-packages", "sitecustomize.py", "EXTERNALLY-MANAGED"),
    *("test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "config-*", "pydoc_data"),
    # They bring libraries of the graphical desktop and of NIS along.
    *("_tkinter.*", "_test*", "_ctypes_test.*", "_xxtestfuzz.*", "xxlimited*", "nis.*"),
)
TESTS = frozenset({"test", "tests", "testdata"})
LAUNCHER = """\
#!/bin/sh
# Runs with the Python beside it; what the node sets for other Pythons is left out.
'''':
unset PYTHONHOME PYTHONPATH
PYTHONNOUSERSITE=1
export PYTHONNOUSERSITE
exec "$(dirname -- "$(readlink -f -- "$0")")/{python}" "$0" "$@"
'''
import sys

from {module} import {first}

sys.exit({function}())
"""


def pack_environment(archive: Path, extras: tuple[str, ...] = ("report",)) -> str:
    """Write the archive.

    Parameters
    ----------
    archive
        The file to write, ``.tar.gz``; it appears whole or not at all.
    extras
        Extras of protosonic whose packages are taken along.

    Returns
    -------
    What it holds and needs, in one line.

    Raises
    ------
    ConfigError
        A package is missing here, or a program that is needed; or the archive cannot be written.
    """
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"its folder cannot be made: {error.strerror}", file=archive) from error
    if not os.access(archive.parent, os.W_OK):
        raise ConfigError("its folder cannot be written to", file=archive)
    distributions = _distributions(extras)
    with tempfile.TemporaryDirectory(prefix="protosonic-pack-") as scratch:
        root = Path(scratch, FOLDER)
        python = _copy_python(root)
        bundle_libraries(root, python)
        packages = _packages_folder(python)
        for distribution in distributions:
            _copy_distribution(distribution, packages, Path(scratch))
        _write_launchers(root, packages, python)
        # Nodes cannot keep compiled modules in a folder that they only read.
        compiling = ["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-j", "0"]
        _run([str(python), "-I", *compiling, str(root)])
        record = _record(root, packages, distributions)
        publish_text(root / RECORD, json.dumps(record, indent=1) + "\n")
        _write_archive(root, archive)
    size = archive.stat().st_size / 1e6
    return (
        f"{size:.0f} MB, Python {record['python']} with {len(record['packages'])} packages; "
        f"needs {record['machine']} with glibc {record['glibc']} or later"
    )


def _distributions(extras: tuple[str, ...]) -> list[metadata.Distribution]:
    known = metadata.metadata(PACKAGE).get_all("Provides-Extra") or []
    for extra in extras:
        if canonicalize_name(extra) not in {canonicalize_name(name) for name in known}:
            raise ConfigError(
                "there is no such extra", where="--extras", expected=", ".join(known), found=extra
            )
    name = f"{PACKAGE}[{','.join(extras)}]" if extras else PACKAGE
    found: dict[str, metadata.Distribution] = {}
    missing = []
    for requirement, distribution in needed_distributions([name]):
        if distribution is None:
            missing.append(str(requirement))
        else:
            found[canonicalize_name(requirement.name)] = distribution
    if missing:
        raise ConfigError(
            "packages that should be packed are not installed here",
            found=", ".join(sorted(set(missing))),
            hint=f"pip install '{name}'",
        )
    return [found[key] for key in sorted(found)]


def _copy_python(root: Path) -> Path:
    """Copy the interpreter and its standard library; gives the interpreter."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (root / "bin").mkdir(parents=True)
    python = root / "bin" / name
    base: str = getattr(sys, "_base_executable", sys.executable)
    shutil.copy2(Path(base).resolve(), python)
    python.chmod(0o755)
    for link in ("python3", "python"):
        (root / "bin" / link).symlink_to(name)
    log.info("copying Python from %s", sysconfig.get_path("stdlib"))
    shutil.copytree(sysconfig.get_path("stdlib"), root / sys.platlibdir / name, ignore=UNWANTED)
    return python


def _packages_folder(python: Path) -> Path:
    """Ask the copy where it looks for packages; that differs between distributions of Python."""
    folder = Path(_run([str(python), "-I", "-c", "import site; print(site.getsitepackages()[-1])"]).strip())
    if not folder.is_relative_to(python.parents[1].resolve()):
        raise ConfigError(
            "this Python cannot be moved: a copy of it looks for packages elsewhere",
            file=sys.executable,
            found=folder,
            hint="Use a Python from python.org, pyenv, conda or a distribution",
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _copy_distribution(distribution: metadata.Distribution, packages: Path, scratch: Path) -> None:
    """Copy the files of a package; one that is installed from its sources is built first."""
    source = json.loads(distribution.read_text("direct_url.json") or "{}")
    if source.get("dir_info", {}).get("editable"):
        place = source["url"].removeprefix("file://")
        wheels = scratch / "wheels"
        _run(
            [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), place]
        )
        for wheel in wheels.glob("*.whl"):
            with zipfile.ZipFile(wheel) as content:
                for item in content.infolist():
                    path = Path(content.extract(item, packages))
                    if item.external_attr >> 16 & 0o111 and path.is_file():
                        path.chmod(0o755)
        return
    for file in distribution.files or []:
        source_file = Path(str(distribution.locate_file(file)))
        if _is_wanted(file) and source_file.is_file():
            target = packages / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source_file, target)


def _is_wanted(file: PurePosixPath) -> bool:
    """Whether a file of a package is taken along: not its scripts, which are written anew, and not its tests."""
    if file.is_absolute() or ".." in file.parts or file.suffix == ".pyc":
        return False
    return file.parts[-1] != "direct_url.json" and not TESTS.intersection(file.parts[1:-1])


def _write_launchers(root: Path, packages: Path, python: Path) -> None:
    for distribution in metadata.distributions(path=[str(packages)]):
        for point in distribution.entry_points.select(group="console_scripts"):
            script = root / "bin" / point.name
            first = point.attr.partition(".")[0]
            script.write_text(
                LAUNCHER.format(python=python.name, module=point.module, first=first, function=point.attr)
            )
            script.chmod(0o755)


def _record(root: Path, packages: Path, distributions: Iterable[metadata.Distribution]) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "glibc": newest_glibc(root),
        "packages_folder": str(packages.relative_to(root.resolve())),
        "packages": {distribution.name: distribution.version for distribution in distributions},
    }


def _write_archive(root: Path, archive: Path) -> None:
    def plain(item: tarfile.TarInfo) -> tarfile.TarInfo:
        item.uid = item.gid = 0
        item.uname = item.gname = ""
        item.mtime = FIXED_TIME
        item.mode = 0o755 if item.isdir() or item.mode & 0o100 else 0o644
        return item

    part = archive.with_name(f".{archive.name}.part")
    try:
        with (
            part.open("wb") as raw,
            gzip.GzipFile("", "wb", 6, raw, mtime=FIXED_TIME) as packed,
            tarfile.open(fileobj=packed, mode="w") as tar,
        ):
            # Sorted by tarfile itself.
            tar.add(root, FOLDER, filter=plain)
        part.replace(archive)
    finally:
        part.unlink(missing_ok=True)


def _run(command: list[str]) -> str:
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode != 0:
        lines = (process.stderr or process.stdout).strip().splitlines()[-5:]
        raise ConfigError(f"'{' '.join(command)}' fails", found="\n".join(lines))
    return process.stdout
