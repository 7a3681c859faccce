"""The commands of docs/display.md and docs/report.md run in order, and draw."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from support.campaign import protosonic

DOCS = Path(__file__).parents[2] / "docs"
COMMANDS, REPORT_COMMANDS = (
    re.findall(r"^\$ protosonic (.*)$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
    for page in ("display.md", "report.md")
)


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
    assert len(wanted) == 7
    pictures = [(folder / name).read_bytes() for name in wanted]
    assert len(set(pictures)) == 7
    begins = {".png": b"\x89PNG", ".svg": b"<?xml", ".html": b"<!doctype html>"}
    for name, picture in zip(wanted, pictures, strict=True):
        assert picture.lstrip().startswith(begins[Path(name).suffix])


def test_every_command_of_the_page_about_the_report_runs(folder: Path) -> None:
    _, _, *commands = REPORT_COMMANDS  # the first two make what the fixture made
    reports = []
    for command in commands:
        protosonic(*shlex.split(command), cwd=folder)
        reports.append((folder / "results/demo/report.html").read_text(encoding="utf-8"))
    assert [("Against the reference" in report) for report in reports] == [False, True]
    assert reports[0].count('"title":"run 1 subrun 0 event') == 2


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
