"""Builds the compiled kernel of the sparse engine into the wheel, or into the source tree of an editable install.

Without a C compiler the package is installed without it and computes the same with NumPy, more slowly.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "src/protosonic/inference/sparse_engine"


class KernelBuildHook(BuildHookInterface):  # type: ignore[misc,type-arg,unused-ignore]
    """What hatchling calls before it builds a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Build the kernel and tell hatchling that the wheel is for this platform."""
        if self.target_name != "wheel":
            return
        builder = runpy.run_path(str(Path(self.root, FOLDER, "build.py")))
        problem = builder["build_kernel"]()
        if problem:
            print(f"protosonic is built without its compiled kernel: {problem}", file=sys.stderr)  # noqa: T201
            return
        build_data["artifacts"].append(f"{FOLDER}/{builder['LIBRARY'].name}")
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
