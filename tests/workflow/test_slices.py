"""Very large campaigns: in slices, the scores merged in two steps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest

from protosonic.errors import VerificationError, WorkflowError
from support.campaign import assert_same_hits, clean_environment

SLICED = {"partition": {"target_hits": 1, "most_at_once": 2}, "merge": {"bundle_partitions": 1}}


@pytest.fixture
def campaign(make_campaign, simulated):
    return make_campaign(inputs=[{"path": f"{simulated}/*.h5"}], **SLICED)


def planned(campaign):
    return [entry["id"] for entry in json.loads((campaign.work / "plan.json").read_text())["partitions"]]


def test_campaign_in_slices_gives_the_same_dataset(campaign, linear):
    output = campaign.run()
    assert "Slice 3 of 3" in output
    campaign.verify()
    assert_same_hits(campaign.hits(), linear.hits())
    assert len(list((campaign.work / "bundles").glob("*.json"))) == 6
    assert "Finished jobid" not in campaign.run()


def test_a_slice_that_fails_does_not_hold_back_the_others(campaign, linear):
    campaign.run("--until", "partition")
    descriptor = campaign.work / "partitions" / f"{planned(campaign)[0]}.json"
    content = descriptor.read_bytes()
    descriptor.write_bytes(b"{}")  # then no job can say which partition has failed
    output = campaign.run(expect=VerificationError.exit_code)
    assert "Slice 3 of 3" in output
    assert len(list((campaign.work / "bundles").glob("*.json"))) == 5
    assert not (campaign.results / "campaign.json").exists()
    descriptor.write_bytes(content)
    output = campaign.run()
    assert output.count("Score the hits of partition") == 1
    campaign.verify()
    assert_same_hits(campaign.hits(), linear.hits())


def test_snakemake_that_is_killed_alone_leaves_a_campaign_that_goes_on(campaign, linear):
    with subprocess.Popen(
        campaign.command(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=clean_environment(),
        text=True,
    ) as launcher:
        deadline = time.monotonic() + 120
        while not list((campaign.work / "status").glob("*.json")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        children = subprocess.run(
            ["pgrep", "-P", str(launcher.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        os.kill(int(children[0]), signal.SIGKILL)
        output, _ = launcher.communicate()
    assert launcher.returncode == WorkflowError.exit_code, output
    assert "exit code -9" in output
    campaign.run()
    campaign.verify()
    assert_same_hits(campaign.hits(), linear.hits())
