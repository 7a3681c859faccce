"""The life of a campaign after its run: status, recover, close, reopen."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import time
from contextlib import suppress
from typing import Any

import pytest

from protosonic.errors import AcceptanceError, ConfigError, IncompleteError, TransientError
from support.campaign import BIN, CampaignRun, assert_same_hits, clean_environment, protosonic
from support.models import linear_weights, write_linear_model
from support.processes import kill_tree


def state_of(campaign: CampaignRun) -> dict:
    content: dict = json.loads(protosonic("status", str(campaign.workdir), "--json"))
    return content


def failed_partition(campaign: CampaignRun) -> str:
    [problem] = state_of(campaign)["problems"]
    name: str = problem["partition"]
    return name


def mend(campaign: CampaignRun) -> None:
    """Put a model in the place of the broken one that gives the same scores to all other patches."""
    write_linear_model(campaign.workdir / "model.onnx", linear_weights())


def test_status_counts_what_is_on_disk(poisoned):
    state = state_of(poisoned)
    assert state["state"] == "incomplete"
    assert state["partitions"] == {"planned": 4, "done": 3, "failed": 1, "missing": 0}
    assert state["events"] == {"known": 8, "done": 6, "quarantined": 0}
    assert state["hits"]["planned"] == state["hits"]["done"] + 2
    assert state["last_run"]["exit_code"] == IncompleteError.exit_code
    assert state["failures"] == {"ModelError": 1}


def test_status_names_each_failure_with_its_log_and_the_command_that_does_it_again(poisoned):
    text = protosonic("status", str(poisoned.workdir), "--failed")
    name = failed_partition(poisoned)
    assert f"{name} data/poison.h5 failed for good in infer: ModelError" in text
    assert f"log work/test/logs/infer/{name}.log" in text
    assert "the partition failed for good" in text
    assert f"protosonic recover {poisoned.workdir} --campaign test --only {name}" in text


def test_status_of_a_complete_campaign(linear):
    state = state_of(linear)
    assert state["state"] == "complete"
    assert state["partitions"]["done"] == state["partitions"]["planned"] == 3
    assert state["hits"]["done"] == state["hits"]["planned"] == len(linear.hits())
    assert state["problems"] == []


def test_status_follows_a_campaign_through_its_life(make_campaign, simulated):
    campaign = make_campaign(inputs=[{"path": f"{simulated}/*.h5"}])
    refused = protosonic("status", str(campaign.workdir), expect=ConfigError.exit_code)
    assert "no campaign is here" in refused
    campaign.run("--until", "catalog")
    assert state_of(campaign)["state"] == "draft"
    campaign.run("--until", "partition")
    state = state_of(campaign)
    assert state["state"] == "planned"
    assert state["events"]["known"] == 6
    assert len(state["missing"]) == 3
    process = subprocess.Popen(
        campaign.command(), env=clean_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    seen = set()
    while process.poll() is None:
        state = state_of(campaign)
        seen.add(state["state"])
        if state["state"] == "running":
            assert state["running_on"] == socket.gethostname()
    assert process.returncode == 0
    assert "running" in seen
    assert state_of(campaign)["state"] == "complete"


def watch(campaign: CampaignRun, **streams: Any) -> subprocess.Popen[bytes]:
    command = [str(BIN / "protosonic"), "status", str(campaign.workdir), "--watch", "--interval", "0.2"]
    return subprocess.Popen(command, env=clean_environment() | {"TERM": "xterm", "COLUMNS": "100"}, **streams)


def test_a_campaign_is_watched_to_its_end_in_plain_lines(make_campaign, simulated):
    campaign = make_campaign(inputs=[{"path": f"{simulated}/*.h5"}])
    campaign.run("--until", "partition")
    process = subprocess.Popen(
        campaign.command(cores=1),
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while state_of(campaign)["state"] != "running":
        assert process.poll() is None, "the run ended before it was seen"
    text, _ = watch(campaign, stdout=subprocess.PIPE).communicate()
    assert process.wait() == 0
    lines = text.decode().splitlines()
    assert "\x1b" not in text.decode()
    assert lines[0].startswith("test: running, 0 of 3 partitions done")
    assert any(line.startswith("test: complete, 3 of 3 partitions done") for line in lines)
    assert "partitions  3 planned: 3 done, 0 failed for good, 0 missing" in lines
    assert "backends    onnxruntime 100.0%" in lines


def test_a_campaign_is_watched_in_place_on_a_terminal(copy_of, poisoned):
    """As if it ran elsewhere, until that run ends."""
    campaign = copy_of(poisoned)
    lock = campaign.work / "run.lock"
    lock.write_text("123 another.example.org\n")
    ours, theirs = pty.openpty()
    process = watch(campaign, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    text = b""
    while b"ModelError" not in text:
        text += os.read(ours, 65536)
    lock.write_text("")
    # A terminal whose last writer is gone gives an error, not an end.
    with suppress(OSError):
        while more := os.read(ours, 65536):
            text += more
    os.close(ours)
    assert process.wait() == 0
    shown = text.decode()
    assert "running" in shown
    assert "━" in shown
    assert "incomplete" in shown
    assert shown.index("running") < shown.index("incomplete")


def test_watching_and_json_exclude_each_other(finished):
    said = protosonic("status", str(finished.workdir), "--watch", "--json", expect=ConfigError.exit_code)
    assert "exclude each other" in said


def test_status_of_a_finished_campaign_whose_work_folder_is_gone(finished):
    subprocess.run(["rm", "-r", str(finished.work)], check=True)
    state = state_of(finished)
    assert state["state"] == "complete"
    assert state["events"]["done"] == 6


def test_a_run_elsewhere_is_taken_at_its_word(copy_of, poisoned):
    campaign = copy_of(poisoned)
    (campaign.work / "run.lock").write_text("123 another.example.org\n")
    state = state_of(campaign)
    assert state["state"] == "running"
    assert state["running_on"] == "another.example.org"
    for command in ("recover", "close"):
        text = protosonic(command, str(campaign.workdir), expect=TransientError.exit_code)
        assert "another.example.org" in text


def test_recover_leaves_what_failed_for_good_and_says_so(copy_of, poisoned):
    campaign = copy_of(poisoned)
    text = protosonic("recover", str(campaign.workdir), "--dry-run")
    assert "0 partitions are missing, 0 that failed for good are tried again, 1 are left" in text
    text = protosonic("recover", str(campaign.workdir), expect=IncompleteError.exit_code)
    assert "Score the hits" not in text


def test_recover_does_the_missing_partitions_with_the_arguments_of_the_last_run(copy_of, poisoned):
    campaign = copy_of(poisoned)
    [name, *_] = [
        path.stem
        for path in sorted(campaign.work.glob("status/*.json"))
        if b'"failed"' not in path.read_bytes()
    ]
    (campaign.work / "status" / f"{name}.json").unlink()
    # The file may have changed or be gone: what was checked then is kept.
    campaign.config_file.unlink()
    text = protosonic("recover", str(campaign.workdir), "--dry-run")
    assert f"missing  {name}" in text
    text = protosonic("recover", str(campaign.workdir), expect=IncompleteError.exit_code)
    assert "--retries 2" in text
    log = max((campaign.workdir / ".snakemake/log").iterdir())
    assert log.read_text().count("Score the hits of partition") == 1
    assert state_of(campaign)["partitions"] == {"planned": 4, "done": 3, "failed": 1, "missing": 0}


def test_recover_all_completes_a_campaign_whose_model_was_mended(copy_of, poisoned, linear):
    campaign = copy_of(poisoned)
    mend(campaign)
    text = protosonic("recover", str(campaign.workdir), "--all")
    assert "1 that failed for good are tried again" in text
    campaign.verify()
    hits = campaign.hits()
    assert_same_hits(hits.slice(0, len(linear.hits())), linear.hits())
    assert len(hits) == len(linear.hits()) + 2


def test_recover_of_a_partition_that_is_done_is_refused(poisoned):
    text = protosonic("recover", str(poisoned.workdir), "--only", "0" * 16, expect=ConfigError.exit_code)
    assert "there is nothing to recover of 0000000000000000" in text


@pytest.fixture
def closed(copy_of, poisoned) -> CampaignRun:
    """A campaign that was closed with a partition that failed and one that was never done."""
    campaign: CampaignRun = copy_of(poisoned)
    [name, *_] = [
        path.stem
        for path in sorted(campaign.work.glob("status/*.json"))
        if b'"failed"' not in path.read_bytes()
    ]
    (campaign.work / "status" / f"{name}.json").unlink()
    (campaign.work / "scores" / f"{name}.parquet").unlink()
    campaign.outputs.append(protosonic("close", str(campaign.workdir), expect=AcceptanceError.exit_code))
    return campaign


def test_a_closed_campaign_has_a_dataset_and_every_event_in_one_state(closed, linear):
    rows = closed.accounting()
    codes = sorted(row["reason"].partition(":")[0] for row in rows if row["state"] == "quarantined")
    assert codes == ["job-failed"] * 2 + ["not-done"] * 2
    assert len(rows) == 8
    assert "Score the hits" not in closed.outputs[-1]
    closed.verify()
    assert state_of(closed)["state"] == "closed"
    done = closed.hits()
    assert 0 < len(done) < len(linear.hits())
    assert {entry["stage"] for entry in closed.campaign()["failed_partitions"]} == {"infer", "close"}
    assert (closed.results / "report.html").exists()


def test_a_closed_campaign_is_not_run_again_by_accident(closed):
    assert "run --reopen" in closed.run(expect=ConfigError.exit_code)
    assert "run --reopen" in protosonic("recover", str(closed.workdir), expect=ConfigError.exit_code)
    closed.verify()


def test_a_reopened_campaign_goes_on_with_what_was_never_done(closed):
    closed.write_config()
    command = [*closed.command(), "--reopen"]
    process = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=clean_environment(),
    )
    assert process.returncode == IncompleteError.exit_code, process.stdout
    assert state_of(closed)["partitions"] == {"planned": 4, "done": 3, "failed": 1, "missing": 0}
    assert not (closed.results / "campaign.json").exists()


def test_a_closing_that_was_killed_is_closed_by_the_same_command(copy_of, poisoned):
    campaign = copy_of(poisoned)
    for delay in (0.6, 1.2, 2.5):
        process = subprocess.Popen(
            [str(BIN / "protosonic"), "close", str(campaign.workdir)],
            env=clean_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(delay)
        kill_tree(process)
    protosonic("close", str(campaign.workdir), expect=AcceptanceError.exit_code)
    campaign.verify()
    assert state_of(campaign)["state"] == "closed"


def test_closing_a_complete_campaign_is_refused(linear):
    text = protosonic("close", str(linear.workdir), expect=ConfigError.exit_code)
    assert "every partition is done" in text
    assert not (linear.work / "closed.json").exists()
