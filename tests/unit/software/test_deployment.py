"""Files for conda, containers and workflow catalogs say what the package says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from protosonic import __version__
from protosonic.campaign.launch import workflow_folder
from protosonic.campaign.profiles import rules_of
from protosonic.errors import ConfigError
from protosonic.software.conda import conda_environment
from protosonic.software.python_checks import read_pins

ROOT = Path(__file__).parents[3]
CONSTRAINTS = ROOT / "envs" / "constraints.txt"


def pip_packages(text: str) -> dict[str, str]:
    (pip,) = [item["pip"] for item in yaml.safe_load(text)["dependencies"] if isinstance(item, dict)]
    return dict(package.split("==") for package in pip)


def test_conda_environment_holds_the_pinned_versions_of_all_that_is_needed():
    shipped = pip_packages((ROOT / "envs" / "protosonic.yaml").read_text())
    assert shipped.pop("protosonic") == __version__
    assert shipped.items() <= read_pins(CONSTRAINTS).items()
    needed = pip_packages(conda_environment(CONSTRAINTS))
    needed.pop("protosonic")
    assert needed.items() <= shipped.items()
    assert {"numpy", "onnxruntime", "snakemake", "matplotlib"} <= set(shipped)
    assert "pytest" not in shipped


def test_package_without_pinned_version_is_refused(tmp_path):
    lines = CONSTRAINTS.read_text().splitlines()
    (tmp_path / "pins.txt").write_text("\n".join(line for line in lines if not line.startswith("h5py==")))
    with pytest.raises(ConfigError, match=r"no pinned version.*found h5py"):
        conda_environment(tmp_path / "pins.txt")


def test_every_rule_with_a_command_names_the_environment():
    for file in (workflow_folder() / "rules").glob("*.smk"):
        rules = re.split(r"^(?:rule|checkpoint) ", file.read_text(), flags=re.MULTILINE)[1:]
        for rule in rules:
            if "shell:" in rule and "localrule: True" not in rule:
                assert '"../envs/protosonic.yaml"' in rule, (file.name, rule.splitlines()[0])


def test_recipes_start_from_the_same_tagged_image_and_its_python():
    containerfile = (ROOT / "envs" / "Containerfile").read_text()
    images = set(re.findall(r"^FROM (\S+)", containerfile, re.MULTILINE))
    images |= set(re.findall(r"^From: (\S+)", (ROOT / "envs" / "protosonic.def").read_text(), re.MULTILINE))
    (image,) = images
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", image)
    assert "python=3.11" in (ROOT / "envs" / "protosonic.yaml").read_text()
    assert re.search(r"^USER [1-9]\d*$", containerfile.split("FROM ")[-1], re.MULTILINE)


def test_catalog_file_says_how_the_workflow_is_used():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["mandatory-flags"] == {"desc": None, "flags": None}
    assert usage["software-stack-deployment"] == {"conda": True}
    assert usage["report"] is False
    for name in ("workflow/Snakefile", "config/README.md", "config/config.yaml", "config/schema.json"):
        assert (ROOT / name).is_file()


def test_diagram_of_the_workflow_shows_the_rules_of_a_campaign():
    text = (ROOT / "workflow" / "documentation.md").read_text()
    diagram = text.partition("```mermaid\n")[2].partition("```")[0]
    shown = set(re.findall(r"\b([a-z_]+)\[", diagram))
    rules = rules_of(workflow_folder())
    of_training = {rule for rule in rules if "train" in rule}
    assert shown == set(rules) - of_training
