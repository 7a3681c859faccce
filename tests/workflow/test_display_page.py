"""The commands of docs/display.md run in order, and draw."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from support.campaign import protosonic

PAGE = (Path(__file__).parents[2] / "docs/display.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ protosonic (.*)$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where they were run."""
    folder = tmp_path_factory.mktemp("display")
    config = {
        "campaign": {"name": "demo"},
        "inputs": [{"path": "data/*.h5"}],
        "inference": {"policy": "cpu-only"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    for command in COMMANDS:
        protosonic(*shlex.split(command), cwd=folder)
    return folder


def test_every_picture_of_the_page_is_drawn(folder: Path) -> None:
    wanted = re.findall(r"--output (\S+)", "\n".join(COMMANDS))
    assert len(wanted) == 4
    pictures = [(folder / name).read_bytes() for name in wanted]
    assert len(set(pictures)) == 4
    for name, picture in zip(wanted, pictures, strict=True):
        assert picture.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--event", "1-0-1"], "RUN:SUBRUN:EVENT"),
        (["--colour", "charge"], "--colour"),
        (["--plane", "3"], "--plane"),
    ],
)
def test_wrong_options_are_named(folder: Path, arguments: list[str], expected: str) -> None:
    assert expected in protosonic("display", ".", *arguments, cwd=folder, expect=2)
