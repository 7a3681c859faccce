"""The workflow as a part of other repositories, as a release in git and as snakedeploy sets it up."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from protosonic.campaign.launch import workflow_folder
from support.campaign import BIN, CPU_ONLY, CampaignRun, assert_same_hits, clean_environment

ROOT = workflow_folder()
# What snakedeploy 0.17.1 writes for a repository; only the place of the Snakefile differs.
DEPLOYED = """\
from snakemake.utils import min_version


min_version("6.10.0")


configfile: "config/config.yaml"


# declare protosonic as a module
module protosonic:
    snakefile:
        "{snakefile}"
    config:
        config


# use all rules from protosonic
use rule * from protosonic
"""
RENAMED = """\
configfile: "config/config.yaml"


module protosonic:
    snakefile:
        "{snakefile}"
    config:
        config["hits"]


use rule * from protosonic as hits_*


use rule infer from protosonic as hits_infer with:
    threads: 1


rule all:
    default_target: True
    input:
        rules.hits_all.input,
"""
PROFILE = {"set-resources": {"hits_infer": {"mem_mb": 1234}}, "benchmark-extended": True}


def snakemake(folder: Path, *arguments: str) -> str:
    process = subprocess.run(
        [str(BIN / "snakemake"), "--cores", "2", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        # Sources from git are cached there.
        env=clean_environment() | {"XDG_CACHE_HOME": str(folder / "cache")},
    )
    assert process.returncode == 0, process.stdout
    return process.stdout


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tagged version of the workflow in a git repository of its own."""
    repository = tmp_path_factory.mktemp("repository")
    for name in ("workflow", "rules", "envs"):
        shutil.copytree(ROOT / name, repository / name)
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "release"], ["tag", "v1"]):
        subprocess.run([*git, *command], check=True)
    for path in repository.iterdir():
        if path.name != ".git":
            shutil.rmtree(path)
    return f"git+file://{repository}/workflow/Snakefile@v1"


@pytest.fixture
def config(simulated: Path, linear_model: Path) -> dict[str, object]:
    return {
        "campaign": {"name": "inner"},
        "inputs": [{"path": f"{simulated}/*.h5"}],
        "model": {"path": str(linear_model)},
        "inference": CPU_ONLY,
    }


def deploy(folder: Path, snakefile: str, config: dict[str, object]) -> CampaignRun:
    (folder / "workflow").mkdir()
    (folder / "config").mkdir()
    (folder / "workflow" / "Snakefile").write_text(snakefile)
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    return CampaignRun(folder, {}, name="inner")


def test_deployed_workflow_of_a_release_makes_the_same_dataset(
    release: str, config: dict[str, object], linear: CampaignRun, tmp_path: Path
) -> None:
    campaign = deploy(tmp_path, DEPLOYED.format(snakefile=release), config)
    shutil.copytree(
        ROOT / "workflow" / "profiles" / "default", tmp_path / "workflow" / "profiles" / "default"
    )
    snakemake(tmp_path)
    assert_same_hits(campaign.hits(), linear.hits())
    campaign.verify()
    assert "Nothing to be done" in snakemake(tmp_path)


def test_renamed_rules_take_their_resources_from_the_profile_of_the_other_repository(
    release: str, config: dict[str, object], linear: CampaignRun, tmp_path: Path
) -> None:
    campaign = deploy(tmp_path, RENAMED.format(snakefile=release), {"hits": config, "of_others": 1})
    (tmp_path / "workflow" / "profiles" / "site").mkdir(parents=True)
    (tmp_path / "workflow" / "profiles" / "site" / "profile.v9+.yaml").write_text(yaml.safe_dump(PROFILE))
    snakemake(tmp_path, "--workflow-profile", "site")
    measured = [json.loads(path.read_text()) for path in campaign.work.glob("benchmarks/infer/*.jsonl")]
    assert {(job["rule_name"], job["resources"]["mem_mb"]) for job in measured} == {("hits_infer", 1234)}
    assert_same_hits(campaign.hits(), linear.hits())
    campaign.verify()
