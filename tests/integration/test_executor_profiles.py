"""Whole campaigns through the profiles for HTCondor and Kubernetes.

The executor plugins, Snakemake, the submit descriptions, the event log and the manifests are real. No daemon can be
had here: what would be told to the schedd or to the API server is recorded and run on this machine, in a bare environment.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from protosonic.campaign.launch import workflow_folder
from protosonic.campaign.profiles import PLUGIN_EXTRAS
from support.campaign import BIN, CampaignRun, clean_environment, protosonic

ROOT = Path(__file__).parents[2]
SUPPORT = ROOT / "tests" / "support"
PROFILES = workflow_folder() / "workflow" / "profiles"
FAST = ["--seconds-between-status-checks", "1", "--latency-wait", "20"]


@pytest.fixture(scope="session")
def plugins(tmp_path_factory) -> Path:
    """The executor plugins, in a folder of their own: each slows every start of Snakemake that sees it."""
    folder = tmp_path_factory.mktemp("plugins")
    names = [f"snakemake-executor-plugin-{executor}" for executor in PLUGIN_EXTRAS]
    constraints = ["--constraint", str(ROOT / "envs" / "constraints.txt")]
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--target",
        str(folder),
        *constraints,
        *names,
    ]
    subprocess.run(command, check=True)
    return folder


@pytest.fixture(scope="session")
def events(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("events")
    protosonic("simulate", str(folder), "--files", "1", "--events", "1", "--hits", "300", "--seed", "5")
    return folder


@pytest.fixture
def record(tmp_path) -> Path:
    (tmp_path / "record").mkdir()
    return tmp_path / "record"


@pytest.fixture
def environment(plugins, record, tmp_path) -> dict[str, str]:
    return clean_environment() | {
        "PROTOSONIC_TEST_PLUGINS": str(plugins),
        "PROTOSONIC_TEST_RECORD": str(record),
        "PYTHONPATH": str(plugins),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }


@pytest.fixture
def campaign(events, tmp_path) -> CampaignRun:
    config = {"inputs": [{"path": f"{events}/*.h5"}], "inference": {"policy": "cpu-only"}}
    return CampaignRun(tmp_path / "run", config)


def run(campaign: CampaignRun, profile: str, environment: dict[str, str], *arguments: str) -> str:
    command = campaign.command()
    command += ["--profile", profile, "--", *FAST, *arguments]
    process = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=environment
    )
    assert process.returncode == 0, process.stdout
    return process.stdout


def with_htcondor(environment: dict[str, str]) -> dict[str, str]:
    return environment | {"PYTHONPATH": f"{SUPPORT / 'condor'}:{environment['PYTHONPATH']}"}


@pytest.mark.parametrize("name", ["htcondor", "kubernetes", "slurm"])
def test_profile_is_sound_where_its_plugin_is_installed(name, environment):
    code = (
        "from protosonic.campaign.launch import workflow_folder\n"
        "from protosonic.campaign.profiles import check_profile, find_profile, profile_file\n"
        "root = workflow_folder()\n"
        f"print(check_profile(profile_file(find_profile({name!r}, root)), root))\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert process.stdout.strip() == "[]"


def test_misspelt_option_of_a_plugin_stops_the_run(campaign, environment, tmp_path):
    shutil.copytree(PROFILES / "htcondor", tmp_path / "mine")
    file = tmp_path / "mine" / "profile.v9+.yaml"
    file.write_text(file.read_text().replace("htcondor-held-timeout", "htcondor-hold-timeout"))
    command = [*campaign.command(), "--profile", str(tmp_path / "mine")]
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert process.returncode == 2
    assert "no option --htcondor-hold-timeout; did you mean htcondor-held-timeout?" in process.stderr
    assert not (campaign.work / "catalog").exists()


@pytest.mark.parametrize("executor", [*PLUGIN_EXTRAS])
def test_extra_installs_the_plugin_that_the_message_names(executor):
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert f'{PLUGIN_EXTRAS[executor]} = ["snakemake-executor-plugin-{executor}>=' in pyproject


def test_htcondor_jobs_ask_for_what_they_need_and_a_held_one_is_submitted_again(
    campaign, environment, record
):
    (record / "hold-infer").touch()
    (record / "bin").mkdir()
    command = record / "bin" / "protosonic"
    command.write_text(f'#!/bin/sh\necho "$@" >> {record}/commands\nexec {BIN}/protosonic "$@"\n')
    command.chmod(0o755)
    output = run(campaign, "htcondor", with_htcondor(environment), "--htcondor-held-timeout", "1")
    campaign.verify()
    assert "Memory usage exceeded request_memory" in output
    jobs = [
        json.loads(path.read_text())
        for path in sorted(record.glob("*.json"), key=lambda p: p.stat().st_mtime)
    ]
    asked: dict[str, list[int]] = {}
    for job in jobs:
        assert Path(job["executable"]).parent == Path(sys.executable).parent
        assert job["request_cpus"] == "1"
        assert job["request_disk"]
        assert job["getenv"] == "False"
        memory = job["request_memory"].removesuffix("MB").strip()
        asked.setdefault(job["batch_name"].rpartition("-")[0], []).append(int(memory))
    assert asked["infer"] == [3000, 6000]
    assert set(asked["preprocess"]) == {2500}
    assert {"catalog", "partition", "model", "merge", "report"} <= set(asked)
    # On the node a job takes the one core that it has asked for, however many there are.
    (scoring,) = [line for line in (record / "commands").read_text().splitlines() if " infer " in line]
    assert scoring.endswith("--threads 1")


@pytest.fixture
def cluster(tmp_path, environment) -> dict[str, str]:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "kubectl").write_text(f"#!{sys.executable}\n{(SUPPORT / 'kubectl.py').read_text()}")
    (folder / "kubectl").chmod(0o755)
    return environment | {"PATH": f"{folder}:{BIN}:{os.environ['PATH']}"}


@pytest.fixture
def profile(tmp_path) -> Path:
    folder = tmp_path / "profile"
    shutil.copytree(PROFILES / "kubernetes", folder)
    template = folder / "job.yaml"
    template.write_text(template.read_text().replace("registry.example.org", "registry.site"))
    return folder


def test_kubernetes_jobs_carry_image_volume_and_resources(campaign, cluster, profile, record):
    run(campaign, str(profile), cluster)
    campaign.verify()
    jobs = [json.loads(path.read_text()) for path in record.glob("*.json")]
    by_rule: dict[str, list[dict]] = {}
    for job in jobs:
        by_rule.setdefault(job["metadata"]["labels"]["protosonic/rule"], []).append(job)
        assert job["kind"] == "Job"
        assert job["spec"]["backoffLimit"] == 0
        pod = job["spec"]["template"]["spec"]
        assert pod["restartPolicy"] == "Never"
        assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "protosonic"}
        container = pod["containers"][0]
        assert container["image"] == "registry.site/protosonic:0.1.0"
        assert container["workingDir"] == str(campaign.workdir)
        assert container["resources"]["requests"]["cpu"] == "1"
        assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]
    assert {"catalog", "partition", "model", "preprocess", "infer", "merge", "report"} == set(by_rule)
    report = by_rule["report"][0]
    assert report["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] == {"memory": "1500M"}
    assert report["spec"]["activeDeadlineSeconds"] == 30 * 60 + 600


def test_kubernetes_refuses_the_placeholder_image(campaign, cluster, record):
    command = [*campaign.command(), "--profile", "kubernetes", "--", *FAST]
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=cluster)
    assert process.returncode != 0
    assert "the image is still the placeholder" in process.stderr
    assert not list(record.iterdir())


@pytest.fixture
def job(cluster, profile, tmp_path, record) -> str:
    """A job that runs until it is deleted."""
    script = tmp_path / "job.sh"
    script.write_text(
        '#!/bin/sh\n# properties = {"type": "single", "rule": "infer", "threads": 2, "resources": {}}\nsleep 600\n'
    )
    return ask(cluster, "submit", "--template", str(profile / "job.yaml"), str(script))


def ask(cluster: dict[str, str], *arguments: str) -> str:
    command = [str(BIN / "protosonic"), "kubernetes", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=cluster).stdout.strip()


def test_kubernetes_job_is_followed_until_it_is_deleted(job, cluster, record):
    assert job.startswith("default/protosonic-infer-")
    assert ask(cluster, "status", job) == "running"
    (record / "unreachable").touch()
    assert ask(cluster, "status", job) == "running"
    (record / "unreachable").unlink()
    ask(cluster, "cancel", job)
    assert ask(cluster, "status", job) == "failed"


def test_kubernetes_job_that_fails_is_seen(cluster, profile, tmp_path):
    script = tmp_path / "job.sh"
    script.write_text(
        '#!/bin/sh\n# properties = {"type": "single", "rule": "merge", "threads": 1, "resources": {}}\nexit 3\n'
    )
    name = ask(cluster, "submit", "--template", str(profile / "job.yaml"), str(script))
    while ask(cluster, "status", name) == "running":
        time.sleep(0.2)
    assert ask(cluster, "status", name) == "failed"
