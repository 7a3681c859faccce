"""Where a campaign stands, from files that are as runs leave them."""

from __future__ import annotations

import fcntl
import json
import os
import socket

import pytest

from protosonic.campaign.last_run import begin_run, end_run, hold_campaign, recorded_run, running_on
from protosonic.campaign.layout import Layout
from protosonic.campaign.records import (
    BackendUse,
    CatalogBlock,
    PartitionFailure,
    PartitionStatus,
    Plan,
    PlannedPartition,
    write_record,
)
from protosonic.campaign.recovery import plan_recovery
from protosonic.campaign.state import read_state
from protosonic.errors import ConfigError, TransientError

NAMES = [f"{number:016x}" for number in range(5)]


@pytest.fixture
def layout(tmp_path, make_file) -> Layout:
    """A planned campaign of five partitions with one event each, of one file."""
    layout = Layout("demo", tmp_path)
    write_record(
        layout.catalog / "00.json", CatalogBlock(package_version="1", files=(make_file("a.h5", *[10] * 5),))
    )
    partitions = tuple(PlannedPartition(id=name, path="a.h5", hits=10, mem_mb=450) for name in NAMES)
    write_record(layout.plan, Plan(catalog=("00.json",), partitions=partitions, refused=(), refused_files=()))
    return layout


def finish(
    layout: Layout,
    name: str,
    failure: PartitionFailure | None = None,
    backends: tuple[BackendUse, ...] = (),
) -> None:
    number = NAMES.index(name)
    event = {
        "entry": number,
        "run": 1,
        "subrun": 0,
        "event": number,
        "hits_planned": 10,
        "hits_done": 0 if failure else 10,
        "state": "quarantined" if failure else "done",
        "reason": "job-failed: x" if failure else None,
    }
    status = PartitionStatus.model_validate(
        {
            "partition": name,
            "path": "a.h5",
            "file_id": "f",
            "state": "failed" if failure else "done",
            "failure": failure,
            "events": [event],
            "scores_sha256": "",
            "rows": event["hits_done"],
            "policy": "cpu-only",
            "model_sha256": "",
            "package_version": "1",
            "profile": {},
            "duplicate_patches": "correct",
            "seconds": 1.0,
            "detector": "protodune-sp",
            "backends": backends,
        }
    )
    write_record(layout.status(name), status)


def failure(*, recoverable: bool) -> PartitionFailure:
    return PartitionFailure(
        stage="infer", error="ModelError", exit_code=4, message="no", recoverable=recoverable
    )


def record_failure(layout: Layout, command: str, code: int, error: str) -> None:
    layout.failures.mkdir(parents=True, exist_ok=True)
    content = {"command": command, "exit_code": code, "error": error, "message": "why"}
    (layout.failures / f"{abs(hash(command))}.json").write_text(json.dumps(content))


def test_partitions_and_events_are_counted(layout):
    finish(layout, NAMES[0])
    finish(layout, NAMES[1], failure(recoverable=False))
    state = read_state(layout)
    assert state.state == "incomplete"
    assert state.partitions == {"planned": 5, "done": 1, "failed": 1, "missing": 3}
    assert state.events == {"known": 5, "done": 1, "quarantined": 0}
    assert state.hits == {"planned": 50, "done": 10}
    assert state.missing == NAMES[2:]


def test_what_scored_is_summed_up_over_partitions(layout):
    def endpoint(hits: int, answers: int, p50: float) -> BackendUse:
        latency = {"p50": p50, "p95": 2 * p50, "p99": 3 * p50, "max": 4 * p50}
        return BackendUse(
            backend="triton",
            endpoint="grpc://a:1",
            hits=hits,
            answers=answers,
            retries={"overload": 2},
            latency_s=latency,
        )

    finish(layout, NAMES[0], backends=(endpoint(6, 3, 0.1), BackendUse(backend="onnxruntime", hits=4)))
    finish(layout, NAMES[1], backends=(endpoint(10, 1, 0.5),))
    state = read_state(layout)
    assert state.backends == {"grpc://a:1": 16, "onnxruntime": 4}
    assert state.retries == {"overload": 4}
    assert state.latency_s == {"grpc://a:1": {"p50": 0.1, "p95": 1.0, "p99": 1.5, "max": 2.0}}
    assert state.hits_per_s is None


def test_statuses_of_partitions_that_are_no_longer_planned_do_not_count(layout):
    finish(layout, NAMES[0])
    layout.status(NAMES[0]).rename(layout.status("f" * 16))
    assert read_state(layout).partitions["done"] == 0


def test_a_status_that_is_damaged_is_not_done(layout):
    finish(layout, NAMES[0])
    layout.status(NAMES[0]).write_text("{")
    assert read_state(layout).partitions == {"planned": 5, "done": 0, "failed": 0, "missing": 5}


def test_failures_of_jobs_are_named_until_their_work_is_done(layout):
    command = f"infer --unit u.h5 --status work/demo/status/{NAMES[0]}.json --threads 1"
    record_failure(layout, command, 11, "ServiceError")
    record_failure(layout, "merge", 8, "IncompleteError")
    record_failure(layout, "catalog --block 3f", 2, "ConfigError")
    problems = {problem.stage: problem for problem in read_state(layout).problems}
    assert set(problems) == {"infer", "catalog"}
    assert problems["infer"].partition == NAMES[0]
    assert not problems["infer"].permanent
    assert problems["catalog"].partition is None
    assert problems["catalog"].permanent
    finish(layout, NAMES[0])
    assert [problem.stage for problem in read_state(layout).problems] == ["catalog"]


def test_a_job_that_was_killed_is_found_by_its_log(layout):
    log = layout.logs / "infer" / f"{NAMES[0]}.log"
    log.parent.mkdir(parents=True)
    log.write_text("one\n\ntwo\nthree\nfour\n")
    [problem] = read_state(layout).problems
    assert problem.partition == NAMES[0]
    assert "killed" in problem.message
    assert problem.log_lines == ("two", "three", "four")
    assert problem.log == f"work/demo/logs/infer/{NAMES[0]}.log"
    assert problem.rerun.endswith(f"--only {NAMES[0]}")


def test_what_recovers_is_what_is_missing_or_can_succeed(layout):
    finish(layout, NAMES[0])
    finish(layout, NAMES[1], failure(recoverable=False))
    finish(layout, NAMES[2], failure(recoverable=True))
    state = read_state(layout)
    recovery = plan_recovery(state)
    assert recovery.missing == tuple(NAMES[3:])
    assert [problem.partition for problem in recovery.again] == [NAMES[2]]
    assert [problem.partition for problem in recovery.left] == [NAMES[1]]
    everything = plan_recovery(state, everything=True)
    assert {problem.partition for problem in everything.again} == set(NAMES[1:3])
    assert everything.left == ()
    only = plan_recovery(state, only=[NAMES[1], NAMES[4]])
    assert [problem.partition for problem in only.again] == [NAMES[1]]
    assert only.missing == (NAMES[4],)
    with pytest.raises(ConfigError, match=f"nothing to recover of {NAMES[0]}"):
        plan_recovery(state, only=[NAMES[0]])


def test_nobody_works_on_a_campaign_that_was_never_run(layout):
    assert running_on(layout) is None


def test_the_lock_proves_on_its_own_host_whether_a_run_works(layout):
    layout.lock.write_text(f"1 {socket.gethostname()}\n")
    assert running_on(layout) is None, "it was killed"
    with layout.lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert running_on(layout) == socket.gethostname()
    layout.lock.write_text("1 elsewhere\n")
    assert running_on(layout) == "elsewhere"


def test_asking_does_not_keep_a_run_from_starting(layout, monkeypatch):
    monkeypatch.chdir(layout.workdir)
    inner = Layout(layout.name)
    with layout.lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with pytest.raises(TransientError), hold_campaign(inner):
            pass
    with hold_campaign(inner):
        assert running_on(layout) == socket.gethostname()
    assert running_on(layout) is None


def test_a_run_that_refuses_to_start_does_not_look_killed(layout, monkeypatch, capsys):
    monkeypatch.chdir(layout.workdir)
    with pytest.raises(ConfigError), hold_campaign(Layout(layout.name)):
        raise ConfigError("no")
    with hold_campaign(Layout(layout.name)):
        pass
    assert "killed" not in capsys.readouterr().out


def test_the_last_run_is_recorded_and_a_dry_run_is_not(layout, make_settings, monkeypatch, tmp_path):
    monkeypatch.chdir(layout.workdir)
    inner, settings = Layout(layout.name), make_settings(campaign={"name": "demo"})
    assert begin_run(inner, tmp_path / "c.yaml", settings, "default", 2, ["--dry-run"]) is None
    with pytest.raises(ConfigError, match="nothing says how this campaign was run"):
        recorded_run(inner)
    record = begin_run(inner, tmp_path / "c.yaml", settings, "slurm", None, ["--retries", "2"])
    assert recorded_run(layout).exit_code is None
    end_run(inner, record, 8)
    last = recorded_run(layout)
    assert (last.profile, last.cores, last.arguments, last.exit_code) == (
        "slurm",
        None,
        ("--retries", "2"),
        8,
    )
    assert (layout.workdir / last.settings).is_file()
    # A recovery takes the kept configuration, and the name of the file that it came from stays known.
    begin_run(inner, tmp_path / last.settings, settings, "slurm", None, [])
    assert recorded_run(layout).config == str(tmp_path / "c.yaml")


def test_after_plain_snakemake_the_newest_configuration_is_taken(layout):
    for number, name in enumerate(("b", "a")):
        path = layout.settings(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
        os.utime(path, (number, number))
    assert recorded_run(layout).settings == "work/demo/settings/a.json"
