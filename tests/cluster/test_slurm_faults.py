"""What goes wrong on a cluster, each in its own partition of one campaign on a real SLURM."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cluster.campaigns import SlurmCampaign, overlapping
from cluster.slurm import SlurmCluster
from protosonic.errors import IncompleteError, WorkflowError
from support.campaign import CampaignRun, protosonic
from support.models import linear_weights, write_linear_model
from support.poison import MOST_CHARGE, POISONED_RUN, write_poisoned_file

SUBMITTED = 3
"""Once, and the profile's two retries."""
MORE_THAN_IS_ASKED_MB = 1300
MINUTES = "1 * attempt"


class Told:
    """The campaign after its faults, and what SLURM and the jobs themselves say of it."""

    def __init__(self, campaign: SlurmCampaign, names: dict[str, str]) -> None:
        self.campaign, self.names = campaign, names
        self.history = campaign.history()
        self.jobs = {what: campaign.jobs_of(name) for what, name in names.items()}
        self.attempts = campaign.attempts()

    def states(self, what: str) -> list[str]:
        return [self.history[job]["State"].split()[0] for job in self.jobs[what]]


@pytest.fixture(scope="module")
def told(
    the_slurm: SlurmCluster,
    config: dict[str, Any],
    simulated: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Told:
    workdir = tmp_path_factory.mktemp("faults")
    shutil.copytree(simulated, workdir / "data")
    write_poisoned_file(workdir / "data" / "poison.h5", events=1)
    write_linear_model(workdir / "model.onnx", linear_weights(), most_charge=MOST_CHARGE)
    changes = {
        "inputs": [{"path": "data/*.h5"}],
        "model": {"path": "model.onnx"},
        "acceptance": {"max_quarantined_fraction": 0.1},
    }
    campaign = SlurmCampaign(workdir, config | changes, cluster=the_slurm)
    partitions = campaign.plan_here()
    healthy = [item["id"] for item in partitions if "poison" not in item["path"]]
    [poisoned] = [item["id"] for item in partitions if "poison" in item["path"]]
    names = dict(zip(("time", "scancel", "slurmd", "memory", "fail", "kill"), healthy, strict=False))
    campaign.faults = {
        names["time"]: {"stage": "infer", "kind": "sleep", "times": 1, "amount": 1000},
        names["scancel"]: {"stage": "preprocess", "kind": "sleep", "times": 1, "amount": 1000},
        names["slurmd"]: {"stage": "preprocess", "kind": "sleep", "times": 1, "amount": 20},
        names["memory"]: {"stage": "infer", "kind": "memory", "times": 1, "amount": MORE_THAN_IS_ASKED_MB},
        names["fail"]: {"stage": "infer", "kind": "fail", "times": 99},
        names["kill"]: {"stage": "infer", "kind": "kill", "times": 1},
    }
    runtimes = ("--set-resources", f"preprocess:runtime={MINUTES}", f"infer:runtime={MINUTES}")
    process = campaign.start(*runtimes)
    campaign.await_true("a job to cancel", lambda: campaign.jobs_of(names["scancel"]), process)
    the_slurm.call("scancel", campaign.jobs_of(names["scancel"])[0])
    campaign.await_true("a node", lambda: campaign.jobs_of(names["slurmd"]), process)
    node = next(attempt.node for attempt in campaign.attempts() if attempt.partition == names["slurmd"])
    the_slurm.kill(node)
    the_slurm.start_node(node)
    assert process.wait() == WorkflowError.exit_code, campaign.output()
    return Told(campaign, names | {"poison": poisoned})


def test_all_other_partitions_are_done(told: Told) -> None:
    states = Counter(status["state"] for status in told.campaign.statuses().values())
    assert states == {"done": 11, "failed": 1}
    assert told.names["fail"] not in told.campaign.statuses()
    assert overlapping(told.attempts, told.campaign.ends()) == []


def test_partition_that_always_fails_is_submitted_as_often_as_allowed(told: Told) -> None:
    assert told.states("fail") == ["FAILED"] * SUBMITTED


def test_partition_that_fails_for_good_is_submitted_once(told: Told) -> None:
    assert told.states("poison") == ["COMPLETED"]


def test_job_that_takes_too_much_memory_is_tried_with_more(told: Told) -> None:
    first, second = told.jobs["memory"]
    assert told.states("memory")[0] != "COMPLETED"
    assert told.states("memory")[1] == "COMPLETED"
    asked = [int(told.history[job]["ReqMem"].removesuffix("M")) for job in (first, second)]
    assert asked[0] < MORE_THAN_IS_ASKED_MB
    assert asked[1] > asked[0]


def test_job_that_takes_too_long_is_tried_with_more_time(told: Told) -> None:
    assert told.states("time") == ["TIMEOUT", "COMPLETED"]
    assert [told.history[job]["TimelimitRaw"] for job in told.jobs["time"]] == ["2", "4"]


def test_cancelled_job_is_tried_again(told: Told) -> None:
    assert told.states("scancel") == ["CANCELLED", "COMPLETED"]


def test_killed_process_is_tried_again(told: Told) -> None:
    assert told.states("kill") == ["FAILED", "COMPLETED"]


def test_job_goes_on_while_the_daemon_of_its_node_is_started_again(told: Told) -> None:
    assert told.states("slurmd") == ["COMPLETED"]


def test_recovery_does_what_is_missing_and_the_campaign_can_be_closed(told: Told, quiet: CampaignRun) -> None:
    """With the profile and the site file of the run, which are not named again."""
    campaign = told.campaign
    before = len(campaign.history())
    campaign.faults = {}
    environment = campaign.environment()
    workdir = str(campaign.workdir)
    protosonic("recover", workdir, expect=IncompleteError.exit_code, environment=environment)
    assert len(campaign.jobs_of(told.names["fail"])) == SUBMITTED + 1
    assert len(campaign.jobs_of(told.names["poison"])) == 1
    assert len(campaign.history()) > before
    protosonic("close", workdir, environment=environment)
    campaign.verify()
    lost = [event for event in campaign.accounting() if event["state"] != "done"]
    assert {event["run"] for event in lost} == {POISONED_RUN}
    assert len(campaign.hits()) == len(quiet.hits())
