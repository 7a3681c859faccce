"""Virtual environments for servers, in the user's cache directory: made once, shared by all processes."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import sys
import sysconfig
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from protosonic.errors import ServiceError
from protosonic.publish import publish_text, sha256_of_json
from protosonic.user_cache import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["PackageEnvironment", "find_or_create", "tied_to_this_process"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PackageEnvironment:
    """A virtual environment, made by the Python that runs now.

    Attributes
    ----------
    folder
        Where it is.
    what
        What it holds, for messages.
    """

    folder: Path
    what: str

    @property
    def is_complete(self) -> bool:
        """Whether the installation was finished and the Python that it was made with is still there."""
        return self._mark.is_file() and self.python.exists()

    @property
    def python(self) -> Path:
        """Its Python."""
        return self.folder / "bin" / "python3"

    @property
    def packages(self) -> Path:
        """Its folder of packages."""
        base = str(self.folder)
        return Path(sysconfig.get_path("platlib", "venv", {"base": base, "platbase": base}))

    @property
    def _mark(self) -> Path:
        return self.folder / ".complete"

    def variables(self) -> dict[str, str]:
        """Give the environment variables with which its programs are found first."""
        path = os.pathsep.join([str(self.folder / "bin"), os.environ.get("PATH", os.defpath)])
        return os.environ | {"PATH": path}

    def pip_install(self, *arguments: str) -> None:
        """Install packages into it.

        Raises
        ------
        ServiceError
            They cannot be installed.
        """
        self._run([str(self.python), "-m", "pip", "--disable-pip-version-check", "install", *arguments])

    def _make(self) -> None:
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self._run([sys.executable, "-m", "venv", str(self.folder)])

    def _run(self, command: list[str]) -> None:
        result = subprocess.run(
            tied_to_this_process(command),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            raise ServiceError(
                f"{self.what} cannot be installed",
                expected=f"'{' '.join(command)}' to work",
                found="\n".join(["its last lines:", *result.stdout.splitlines()[-10:]]),
                hint="It needs a package index. The Triton server needs Linux with glibc 2.35 or later, and on Python "
                "3.13 a C compiler, because there are no ready-made packages of numpy 1 for it",
            )


def find_or_create(
    name: str, what: str, made_with: Sequence[str], fill: Callable[[PackageEnvironment], None]
) -> PackageEnvironment:
    """Find an environment in the user's cache directory, or make it there.

    The environment cannot be renamed into place, because virtual environments hold their own path: a mark that is
    written last says that it is complete, and a lock keeps two processes from making it at once.

    Parameters
    ----------
    name
        Name of its folder, with the version of what it holds.
    what
        What it holds, for messages.
    made_with
        What it depends on besides the running Python; another value is another environment.
    fill
        Installs the packages.

    Raises
    ------
    ServiceError
        It cannot be made.
    """
    cache = cache_folder()
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = sha256_of_json([sys.base_prefix, python, *made_with])[:8]
    environment = PackageEnvironment(cache / f"{name}-{digest}", what)
    if not environment.is_complete:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(environment.folder.with_name(f"{environment.folder.name}.lock"), what):
            if not environment.is_complete:  # nobody made it while we waited
                log.warning("installing %s into %s, once", what, environment.folder)
                environment._make()
                fill(environment)
                publish_text(environment._mark, "")
    return environment


def tied_to_this_process(command: Sequence[str]) -> list[str]:
    """Give a command that runs `command` and is killed when the present process ends, also when that is killed.

    Linux counts the thread that starts it as the parent: start it from the main thread.
    """
    return [sys.executable, "-I", str(Path(__file__).with_name("launcher.py")), str(os.getpid()), *command]


@contextmanager
def _locked(path: Path, what: str) -> Iterator[None]:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("waiting for another process that installs %s", what)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
