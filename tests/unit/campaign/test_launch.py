"""Starting a campaign: what is refused before Snakemake starts, and the command that starts it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
import yaml

from protosonic.campaign.launch import run_campaign, snakemake_command, workflow_folder
from protosonic.errors import ConfigError, TransientError


@pytest.fixture
def config(tmp_path) -> Path:
    """A configuration whose only input is there."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.h5").write_text("a")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"inputs": [{"path": "a.h5"}]}))
    return path


def test_workflow_is_found_beside_the_package():
    folder = workflow_folder()
    assert (folder / "rules").is_dir()
    assert (folder / "workflow" / "profiles" / "default" / "profile.v9+.yaml").is_file()


def test_command_runs_the_workflow_with_everything_that_was_chosen(config, tmp_path):
    command = snakemake_command(config, tmp_path / "run", "default", 3, ["--dry-run"])
    assert Path(command[0]).name == "snakemake"
    assert command[-1] == "--dry-run"
    options = dict(zip(command[1:-1:2], command[2:-1:2], strict=True))
    assert options == {
        "--snakefile": str(workflow_folder() / "workflow" / "Snakefile"),
        "--directory": str(tmp_path / "run"),
        "--configfile": str(config),
        "--workflow-profile": str(workflow_folder() / "workflow" / "profiles" / "default"),
        "--cores": "3",
    }


def test_all_cores_that_the_process_may_use_are_taken_by_default(config, tmp_path):
    command = snakemake_command(config, tmp_path, "default", None)
    assert command[command.index("--cores") + 1] == str(len(os.sched_getaffinity(0)))


def test_profile_may_be_a_folder_of_ones_own(config, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "profile.yaml").write_text("executor: local\n")
    command = snakemake_command(config, tmp_path, str(tmp_path / "mine"), 1)
    assert command[command.index("--workflow-profile") + 1] == str(tmp_path / "mine")


def test_unknown_profile_is_refused_with_those_that_are_known(config, tmp_path):
    with pytest.raises(
        ConfigError, match=r"there is no profile 'zebra' \(expected a folder, or one of .*default"
    ):
        snakemake_command(config, tmp_path, "zebra", 1)


def test_wrong_configuration_starts_and_makes_nothing(config, tmp_path):
    config.write_text("zebra: 1")
    with pytest.raises(ConfigError, match="2 problems"):
        run_campaign(config, tmp_path / "new", "default", 1, [])
    assert not (tmp_path / "new").exists()


def test_missing_inputs_are_refused_before_anything_starts(config, tmp_path, capfd):
    before = Path.cwd()
    with pytest.raises(ConfigError, match=rf"nothing matches .*working directory, {tmp_path}/new"):
        run_campaign(config, tmp_path / "new", "default", 1, [])
    assert Path.cwd() == before
    assert list((tmp_path / "new").iterdir()) == []
    assert capfd.readouterr().out == ""


def test_second_run_of_a_campaign_is_refused_while_the_first_lasts(config, tmp_path, capfd):
    lock = tmp_path / "run" / "work" / "demo" / "run.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TransientError, match="another run is working on this campaign"):
            run_campaign(config, tmp_path / "run", "default", 1, [])
    assert capfd.readouterr().out == ""
