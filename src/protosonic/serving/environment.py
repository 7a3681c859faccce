"""The virtual environment that holds the Triton server.

The server is the genuine ``tritonserver`` of the PyPI package ``nvidia-pytriton``, of which nothing else is used. Its
python backend was built for numpy 1 and reads the arrays of numpy 2 wrongly, so it cannot share an environment with
protosonic.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from protosonic.serving.package_environment import PackageEnvironment, find_or_create, tied_to_this_process

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ServerEnvironment", "find_or_create_environment", "tied_to_this_process"]

TRITON_VERSION = "2.51.0"
PYTRITON = "nvidia-pytriton==0.7.0"
NUMPY = "numpy<2"


@dataclass(frozen=True)
class ServerEnvironment:
    """An installed Triton server.

    Attributes
    ----------
    environment
        Where it is.
    """

    environment: PackageEnvironment

    @property
    def folder(self) -> Path:
        """The virtual environment."""
        return self.environment.folder

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
        libraries = [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH")]
        return self.environment.variables() | {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries))}

    @property
    def _triton(self) -> Path:
        return self.environment.packages / "pytriton" / "tritonserver"


def find_or_create_environment() -> ServerEnvironment:
    """Find the server in the user's cache directory, or install it there.

    Raises
    ------
    ServiceError
        The server cannot be installed.
    """
    return ServerEnvironment(
        find_or_create(
            f"triton-{TRITON_VERSION}", "the Triton server", [version("onnxruntime")], _install_triton
        )
    )


def _install_triton(environment: PackageEnvironment) -> None:
    # What the Python package pytriton needs is left out: only the server in it is used.
    environment.pip_install("--no-deps", PYTRITON)
    # The CPU backend's own version of ONNX Runtime, for equal scores.
    environment.pip_install(NUMPY, f"onnxruntime=={version('onnxruntime')}")
    server = ServerEnvironment(environment)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    stubs = server._triton / "python_backend_stubs" / python
    shutil.copy2(stubs / "triton_python_backend_stub", server.backends / "python")
