"""Builds the compiled kernel where there is a C compiler.

Installing the package runs this; ``python -m protosonic.inference.sparse_engine.build`` does it for a package that was
installed without a compiler. It uses the standard library only, since it runs before there is anything else.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["LIBRARY", "build_kernel"]

FOLDER = Path(__file__).parent
LIBRARY = FOLDER / "_kernel.so"
_COMPILERS = ("cc", "gcc", "clang")
_FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-shared", "-ffp-contract=fast")


def build_kernel(library: Path = LIBRARY) -> str | None:
    """Compile the kernel with ``CC`` or the first compiler found.

    Parameters
    ----------
    library
        The file to make; it appears whole or not at all.

    Returns
    -------
    ``None``, or why there is none.
    """
    named = os.environ.get("CC")
    compilers = [shlex.split(named)] if named else [[name] for name in _COMPILERS if shutil.which(name)]
    if not compilers:
        return "there is no C compiler"
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        part = Path(folder) / library.name
        command = [*compilers[0], *_FLAGS, "-o", str(part), str(FOLDER / "kernel.c")]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            return str(error)
        if done.returncode:
            return f"{shlex.join(command)} failed: {done.stderr.strip()}"
        part.replace(library)
    return None


if __name__ == "__main__":
    sys.exit(build_kernel())
