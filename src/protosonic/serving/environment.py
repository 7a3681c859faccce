"""The virtual environment that holds the Triton server.

The server is the genuine ``tritonserver`` of the PyPI package ``nvidia-pytriton``, of which nothing else is used. Its
python backend was built for numpy 1 and reads the arrays of numpy 2 wrongly, so it cannot share an environment with
protosonic.
"""

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
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from protosonic.errors import ServiceError
from protosonic.publish import publish_text, sha256_of_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["ServerEnvironment", "find_or_create_environment", "tied_to_this_process"]

TRITON_VERSION = "2.51.0"
PYTRITON = "nvidia-pytriton==0.7.0"
NUMPY = "numpy<2"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerEnvironment:
    """An installed server.

    Attributes
    ----------
    folder
        The virtual environment; made by the Python that runs now.
    """

    folder: Path

    @property
    def binary(self) -> Path:
        """The ``tritonserver`` program."""
        return self._triton / "bin" / "tritonserver"

    @property
    def backends(self) -> Path:
        """Folder of the server's backends."""
        return self._triton / "backends"

    def variables(self) -> dict[str, str]:
        """Give the environment variables that the server runs with.

        The python backend starts an interpreter that ignores PYTHONPATH and PYTHONHOME. It takes itself for the first
        ``python3`` on the path, and so finds the packages of this virtual environment.
        """
        path = os.pathsep.join([str(self.folder / "bin"), os.environ.get("PATH", os.defpath)])
        libraries = [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH")]
        return os.environ | {"PATH": path, "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries))}

    @property
    def is_complete(self) -> bool:
        """Whether the installation was finished and the Python that it was made with is still there."""
        return self._mark.is_file() and (self.folder / "bin" / "python3").exists()

    @property
    def _mark(self) -> Path:
        return self.folder / ".complete"

    @property
    def _triton(self) -> Path:
        base = str(self.folder)
        packages = sysconfig.get_path("platlib", "venv", {"base": base, "platbase": base})
        return Path(packages, "pytriton", "tritonserver")

    def install(self) -> None:
        """Make the environment anew.

        Raises
        ------
        ServiceError
            The packages cannot be installed.
        """
        if self.folder.exists():
            shutil.rmtree(self.folder)
        _run([sys.executable, "-m", "venv", str(self.folder)])
        pip = [str(self.folder / "bin" / "python3"), "-m", "pip", "--disable-pip-version-check", "install"]
        # What the Python package pytriton needs is left out: only the server in it is used.
        _run([*pip, "--no-deps", PYTRITON])
        # The CPU backend's own version of ONNX Runtime, for equal scores.
        _run([*pip, NUMPY, f"onnxruntime=={version('onnxruntime')}"])
        stubs = self._triton / "python_backend_stubs" / _python_version()
        shutil.copy2(stubs / "triton_python_backend_stub", self.backends / "python")
        publish_text(self._mark, "")


def find_or_create_environment() -> ServerEnvironment:
    """Find the server in the user's cache directory, or install it there.

    The environment cannot be renamed into place, because virtual environments hold their own path: a mark that is
    written last says that it is complete, and a lock keeps two processes from making it at once.

    Raises
    ------
    ServiceError
        The server cannot be installed.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "protosonic"
    made_with = sha256_of_json([sys.base_prefix, _python_version(), version("onnxruntime")])[:8]
    environment = ServerEnvironment(cache / f"triton-{TRITON_VERSION}-{made_with}")
    if not environment.is_complete:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(environment.folder.with_name(f"{environment.folder.name}.lock")):
            if not environment.is_complete:  # nobody made it while we waited
                log.warning("installing the Triton server into %s, once", environment.folder)
                environment.install()
    return environment


def tied_to_this_process(command: Sequence[str]) -> list[str]:
    """Give a command that runs `command` and is killed when the present process ends, also when that is killed.

    Linux counts the thread that starts it as the parent: start it from the main thread.
    """
    return [sys.executable, "-I", str(Path(__file__).with_name("launcher.py")), str(os.getpid()), *command]


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _run(command: list[str]) -> None:
    result = subprocess.run(
        tied_to_this_process(command),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise ServiceError(
            "the Triton server cannot be installed",
            expected=f"'{' '.join(command)}' to work",
            found="\n".join(["its last lines:", *result.stdout.splitlines()[-10:]]),
            hint="It needs Linux with glibc 2.35 or later and a package index; on Python 3.13 also a C compiler, "
            "because there are no ready-made packages of numpy 1 for it",
        )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("waiting for another process that installs the Triton server")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
