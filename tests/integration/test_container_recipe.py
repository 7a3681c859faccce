"""The steps of envs/Containerfile are run, without a container: no image can be had here, and no daemon."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from support.campaign import clean_environment

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    """The folder that the recipe would make, with /opt, /src and /wheels in it; the steps of apt-get are left out."""
    root = tmp_path_factory.mktemp("image")
    # As in COPY, the patterns count at the top only.
    patterns = [line for line in (ROOT / ".containerignore").read_text().splitlines() if line[0] not in "#!"]
    (root / "src").mkdir()
    for path in ROOT.iterdir():
        if path.name == ".gitignore" or not any(path.match(pattern) for pattern in patterns):
            copy = shutil.copytree if path.is_dir() else shutil.copy2
            copy(path, root / "src" / path.name)
    recipe = re.sub(r"\\\n", "", (ROOT / "envs" / "Containerfile").read_text())
    steps = [step for step in re.findall(r"^RUN (.*)$", recipe, re.MULTILINE) if "apt-get" not in step]
    assert len(steps) == 2
    # The recipe's "python" is the one of its base image, which is the one that runs the tests here.
    variables = clean_environment() | {"EXTRAS": re.findall(r"^ARG EXTRAS=(.*)$", recipe, re.MULTILINE)[0]}
    for step in steps:
        here = re.sub(r"(?<![\w.])/(opt|wheels)/", rf"{root}/\1/", step).replace(
            "--wheel-dir /wheels", f"--wheel-dir {root}/wheels"
        )
        process = subprocess.run(
            ["sh", "-ec", here], cwd=root / "src", env=variables, capture_output=True, text=True, check=False
        )
        assert process.returncode == 0, process.stdout + process.stderr
    return root


def test_environment_of_the_image_is_fit_for_campaigns(image, tmp_path):
    variables = {
        "PATH": f"{image}/opt/protosonic/bin:{os.defpath}",
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
    }
    for command in (["doctor"], ["simulate", "data", "--files", "1", "--events", "1", "--hits", "200"]):
        process = subprocess.run(
            ["protosonic", *command], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
        )
        assert process.returncode == 0, process.stdout + process.stderr
    # The compiled kernel came with the wheel.
    assert list((image / "opt").glob("**/sparse_engine/*.so"))


def test_image_and_conda_environment_hold_the_same_packages(image):
    listed = subprocess.run(
        [f"{image}/opt/protosonic/bin/pip", "list", "--format=freeze"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    installed = {line for line in listed.splitlines() if not line.startswith(("pip==", "setuptools=="))}
    content = yaml.safe_load((ROOT / "envs" / "protosonic.yaml").read_text())
    (pip,) = [item["pip"] for item in content["dependencies"] if isinstance(item, dict)]

    def normal(packages: set[str]) -> set[str]:
        return {
            re.sub(r"[-_.]+", "-", package.partition("==")[0]).lower() + "==" + package.partition("==")[2]
            for package in packages
        }

    assert normal(installed) == normal(set(pip))
