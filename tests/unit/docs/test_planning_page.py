"""The commands of docs/planning.md run, print what the page shows, and name what exists."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from protosonic.planning.published import SCANS
from protosonic.planning.scenario import Scenario, load_scenario
from support.campaign import protosonic

PAGE = (Path(__file__).parents[3] / "docs/planning.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
EXAMPLES = [
    (match["command"].replace("\\\n", " "), match["output"])
    for block in BLOCKS
    for match in re.finditer(
        r"^\$ (?P<command>(?:.*\\\n)*.*)\n(?P<output>(?:(?!\$ ).*\n)*)", block, re.MULTILINE
    )
]


@pytest.mark.parametrize(("command", "output"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_commands_print_what_the_page_shows(
    command: str, output: str, tmp_path: Path, finished: Path
) -> None:
    program, *arguments = shlex.split(command)
    assert program == "protosonic"
    (tmp_path / "scenario.yaml").write_text(yaml.safe_dump({"server": {"gpus": 2}}), encoding="utf-8")
    printed = protosonic(*(word.replace("/data/demo", str(finished)) for word in arguments), cwd=tmp_path)
    for line in filter(None, map(str.strip, output.splitlines())):
        if line != "…":
            assert line in [found.strip() for found in printed.splitlines()], printed


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished campaign."""
    workdir = tmp_path_factory.mktemp("finished")
    protosonic("simulate", str(workdir / "data"), "--files", "1", "--events", "2", "--hits", "300")
    config = {
        "campaign": {"name": "demo"},
        "inputs": [{"path": "data/*.h5"}],
        "inference": {"policy": "cpu-only"},
    }
    (workdir / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    protosonic("run", str(workdir / "config.yaml"), "--workdir", str(workdir), "--cores", "1")
    return workdir


def test_page_has_examples() -> None:
    assert len(EXAMPLES) >= 6


def test_example_scenario_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(protosonic("plan", "--example"), encoding="utf-8")
    assert load_scenario(path) == Scenario()


def test_page_has_every_scan() -> None:
    for name in SCANS:
        assert f"`{name}`" in PAGE


def test_rates_of_a_campaign_are_those_of_its_records(finished: Path) -> None:
    plan = json.loads(protosonic("plan", "--from", str(finished), "--json"))
    campaign = json.loads((finished / "results/demo/campaign.json").read_text(encoding="utf-8"))
    work = plan["scenario"]["workload"]
    assert work["events"] == campaign["totals"]["events_planned"] == 2
    assert work["hits_per_event"] == campaign["totals"]["hits_done"] / 2
    assert 0 < work["prepare_s"] < 60
    assert work["cpu_hits_per_s"] > 0
    assert work["cpu_hits_per_s"] != Scenario().workload.cpu_hits_per_s


def test_pictures_are_drawn(tmp_path: Path) -> None:
    protosonic("plan", "--simulate", "--output", "plan.svg", cwd=tmp_path)
    assert "<svg" in (tmp_path / "plan.svg").read_text(encoding="utf-8")
    said = protosonic("plan", "--output", "plan.gif", cwd=tmp_path, expect=2)
    assert ".png or .svg" in said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--set", "server.gpu=4"], "did you mean 'gpus'?"),
        (["--set", "servr.gpus=4"], "unknown key"),
        (["--set", "gpus"], "section.key=value"),
        (["--gpus", "0"], "server.gpus: input should be greater than 0"),
        (["--payload", "tensors"], "clients.payload"),
        (["nowhere.yaml"], "cannot read the scenario"),
        (["--from", "."], "no finished campaign is here"),
    ],
)
def test_what_is_wrong_is_named(arguments: list[str], expected: str, tmp_path: Path) -> None:
    assert expected in protosonic("plan", *arguments, cwd=tmp_path, expect=2)
