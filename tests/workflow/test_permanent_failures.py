"""Partitions that fail for good: submitted once, recorded, and no obstacle to the others."""

from __future__ import annotations

import json

from protosonic.errors import ConfigError, IncompleteError, ServiceError
from support.campaign import CampaignRun, protosonic
from support.models import linear_weights, write_linear_model
from support.poison import MOST_CHARGE, POISONED_RUN, write_poisoned_file


def statuses_of(campaign: CampaignRun) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(campaign.work.glob("status/*.json"))]


def test_a_partition_that_fails_for_good_is_submitted_once_and_says_why(poisoned):
    [output] = poisoned.outputs
    failed = [status for status in statuses_of(poisoned) if status["state"] == "failed"]
    assert len(failed) == 1
    [status] = failed
    assert status["failure"]["stage"] == "infer"
    assert status["failure"]["error"] == "ModelError"
    assert "score that is not finite" in status["failure"]["message"]
    assert {event["run"] for event in status["events"]} == {POISONED_RUN}
    assert {event["state"] for event in status["events"]} == {"quarantined"}
    # Retries were allowed.
    assert output.count(f"Score the hits of partition {status['partition']}") == 1
    assert output.count("Trying to restart") <= output.count("rule merge")


def test_the_run_ends_with_one_error_that_says_how_many_why_and_what_to_do(poisoned):
    error = poisoned.outputs[0].splitlines()[-1]
    assert error.startswith("error: ")
    assert "1 of 4 partitions failed in a way that no retry mends: 1 in infer with ModelError" in error
    assert "protosonic recover --all" in error
    assert "protosonic close" in error


def test_a_campaign_with_failed_partitions_is_not_published_as_complete(poisoned):
    assert not (poisoned.results / "campaign.json").exists()
    assert "no finished campaign" in protosonic("verify", str(poisoned.workdir), expect=ConfigError.exit_code)


def test_the_other_partitions_are_done(poisoned):
    done = [status for status in statuses_of(poisoned) if status["state"] == "done"]
    assert len(done) == 3
    assert all(event["state"] == "done" for status in done for event in status["events"])


def test_the_same_run_again_tries_nothing_again(copy_of, poisoned):
    campaign = copy_of(poisoned)
    output = campaign.run(expect=IncompleteError.exit_code)
    assert "Score the hits" not in output
    assert "Prepare the images" not in output


def test_what_concerns_the_whole_campaign_marks_no_partition_as_failed(make_campaign, simulated):
    endpoints = [{"url": "grpc://127.0.0.1:1", "token_env": "NOBODY_SETS_THIS"}]
    campaign = make_campaign(
        inputs=[{"path": f"{simulated}/*.h5"}], inference={"policy": "endpoint-only", "endpoints": endpoints}
    )
    campaign.run(expect=ConfigError.exit_code)
    assert not list(campaign.work.glob("status/*.json"))


def test_a_failure_that_a_retry_can_mend_is_retried(make_campaign, simulated):
    campaign = make_campaign(
        inputs=[{"path": f"{simulated}/*.h5"}],
        inference={"policy": "endpoint-only", "endpoints": [{"url": "grpc://127.0.0.1:1"}], "patience_s": 0},
    )
    output = campaign.run("--retries", "1", expect=ServiceError.exit_code)
    assert "Trying to restart" in output
    assert not list(campaign.work.glob("status/*.json"))


def test_a_run_in_which_every_partition_fails_is_stopped(make_campaign, tmp_path):
    write_poisoned_file(tmp_path / "poison.h5", events=14)
    campaign = make_campaign(
        inputs=[{"path": str(tmp_path / "poison.h5")}],
        model={"path": "model.onnx"},
        partition={"target_hits": 1, "stop_after_failed": 2},
    )
    write_linear_model(campaign.workdir / "model.onnx", linear_weights(), most_charge=MOST_CHARGE)
    output = campaign.run(expect=IncompleteError.exit_code)
    assert "partitions all failed for good" in output.splitlines()[-1]
    assert 2 <= len(statuses_of(campaign)) < 14
    # Once the cause is mended it goes on where it was.
    write_linear_model(campaign.workdir / "model.onnx", linear_weights())
    protosonic("recover", str(campaign.workdir), "--all")
    campaign.verify()
    assert len(campaign.hits()) == 14
