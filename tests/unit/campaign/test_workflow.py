"""What the Snakefile asks: digests, blocks and the size of jobs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from protosonic import __version__
from protosonic.campaign.records import (
    InputSpec,
    Partition,
    PilotRecord,
    Plan,
    PlannedPartition,
    write_record,
)
from protosonic.campaign.workflow import SETTINGS_VARIABLE, CampaignWorkflow
from protosonic.config import load_settings
from protosonic.errors import ConfigError, VerificationError


@pytest.fixture
def make_workflow(tmp_path, monkeypatch):
    """Make the workflow's view of a campaign whose inputs are the files a, b and c."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(SETTINGS_VARIABLE, "none")
    monkeypatch.setenv("PATH", os.environ["PATH"])
    for name in "abc":
        Path(name).write_text(name)

    def make(**sections) -> CampaignWorkflow:
        return CampaignWorkflow({"inputs": [{"path": "?"}]} | sections)

    return make


@pytest.fixture
def planned(make_workflow) -> CampaignWorkflow:
    workflow = make_workflow()
    write_record(workflow.layout.plan, plan_of("p1", "p2"))
    workflow.partitions(workflow.layout.plan)
    return workflow


def plan_of(*names: str) -> Plan:
    partitions = tuple(
        PlannedPartition(id=name, path="a", hits=90_000 * number, mem_mb=700 * number)
        for number, name in enumerate(names, 1)
    )
    return Plan(catalog=(), partitions=partitions, refused=(), refused_files=())


def test_wrong_configuration_is_refused(make_workflow):
    with pytest.raises(ConfigError, match="unknown key"):
        make_workflow(zebra=1)


def test_digest_carries_the_version_and_changes_with_its_keys_only(make_workflow):
    before, after = make_workflow(), make_workflow(merge={"target_rows": 7})
    assert before.digest("merge").startswith(f"{__version__}-")
    assert before.digest("merge") != after.digest("merge")
    assert before.digest("preprocess", "model.path") == after.digest("preprocess", "model.path")


def test_blocks_hold_every_input_once(make_workflow):
    workflow = make_workflow()
    paths = [file.path for files in workflow.blocks.values() for file in files]
    assert sorted(paths) == ["a", "b", "c"]


def test_block_lists_only_files_that_exist_as_inputs_of_its_job(make_workflow):
    Path("list").write_text("a\ngone\n")
    workflow = make_workflow(inputs=[{"path": "@list"}])
    listed = {file.path for block in workflow.blocks for file in workflow.blocks[block]}
    existing = {path for block in workflow.blocks for path in workflow.block_files(block)}
    assert (listed, existing) == ({"a", "gone"}, {"a"})


def test_remote_files_are_no_inputs_that_snakemake_watches(make_workflow):
    Path("list").write_text("a\nroot://nowhere.invalid//b.h5\n")
    workflow = make_workflow(inputs=[{"path": "@list"}])
    existing = {path for block in workflow.block_names for path in workflow.block_files(block)}
    assert (len(workflow.block_names), existing) == (2, {"a"})


def test_jobs_need_neither_lists_nor_folders(make_workflow):
    Path("list").write_text("a\nroot://nowhere.invalid//b.h5\n")
    inputs = [{"path": "@list"}, {"path": "b"}]
    leader = make_workflow(inputs=inputs)
    expected = {
        block: (leader.block_files(block), leader.block_digest(block)) for block in leader.block_names
    }
    Path("list").unlink()
    job = CampaignWorkflow({"inputs": inputs}, is_job=True)
    assert {block: (job.block_files(block), job.block_digest(block)) for block in job.block_names} == expected
    with pytest.raises(ConfigError):
        make_workflow(inputs=inputs).block_names  # noqa: B018


def test_digest_of_a_block_changes_with_its_files_and_their_options(make_workflow):
    def digests(**entry) -> dict[str, str]:
        workflow = make_workflow(inputs=[{"path": "?"} | entry])
        return {block: workflow.block_digest(block) for block in workflow.blocks}

    before = digests()
    assert digests() == before
    assert all(digest.startswith(f"{__version__}-") for digest in before.values())
    assert not set(digests(run=5).values()) & set(before.values())
    Path("d").write_text("d")
    after = digests()
    assert before.items() < after.items()  # d is alone in its block
    assert len(after) == len(before) + 1


def test_jobs_find_the_checked_configuration_by_the_environment(make_workflow):
    workflow = make_workflow(campaign={"name": "x"})
    workflow.prepare_jobs()
    path = Path(os.environ[SETTINGS_VARIABLE])
    assert path.parent == Path("work/x/settings")
    assert load_settings(path) == workflow.settings


def test_configuration_of_running_jobs_is_never_written_again(make_workflow):
    make_workflow().prepare_jobs()
    first = Path(os.environ[SETTINGS_VARIABLE])
    os.utime(first, (1000, 1000))
    make_workflow().prepare_jobs()
    assert (Path(os.environ[SETTINGS_VARIABLE]), first.stat().st_mtime) == (first, 1000)
    make_workflow(merge={"target_rows": 7}).prepare_jobs()
    assert Path(os.environ[SETTINGS_VARIABLE]) != first
    assert first.stat().st_mtime == 1000


def test_command_is_put_on_the_path_where_it_is_missing(make_workflow, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    make_workflow().prepare_jobs()
    folder, rest = os.environ["PATH"].split(os.pathsep)
    assert (Path(folder) / "protosonic").exists()
    assert rest == "/nowhere"


def test_path_is_left_alone_where_the_command_is_on_it(make_workflow, monkeypatch, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "protosonic").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "protosonic").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    make_workflow().prepare_jobs()
    assert os.environ["PATH"] == str(tmp_path / "bin")


def test_bundled_model_is_no_input_and_another_is(make_workflow):
    assert make_workflow().model_files == []
    assert make_workflow(model={"path": "cnn.onnx"}).model_files == ["cnn.onnx"]


def test_partitions_are_those_of_the_plan_as_it_is_now(planned):
    assert planned.partitions(planned.layout.plan) == ["p1", "p2"]
    write_record(planned.layout.plan, plan_of("p3"))
    assert planned.partitions(str(planned.layout.plan)) == ["p3"]


def test_partitions_before_the_plan_is_made_are_refused(make_workflow):
    workflow = make_workflow()
    with pytest.raises(VerificationError, match=r"plan\.json: the record is missing"):
        workflow.partitions(workflow.layout.plan)


def test_every_attempt_gets_more_memory_and_time(planned):
    assert [planned.mem_mb("p2", attempt) for attempt in (1, 2, 3)] == [1400, 2800, 4200]
    assert [planned.runtime("p1", attempt) for attempt in (1, 2)] == [11, 22]
    assert planned.runtime("p2", 1) == 13


def test_jobs_that_hold_all_records_get_memory_for_them(planned, tmp_path):
    (tmp_path / "3f.json").write_bytes(bytes(20 * 2**20))
    blocks = [str(tmp_path / name) for name in ("3f.json", "not-there-yet.json")]
    assert [planned.mem_mb_of_records(blocks, attempt) for attempt in (1, 2)] == [1200, 2400]


def test_a_pilot_sizes_the_jobs_by_what_it_measured(planned, make_workflow):
    before = planned.partition_digest
    record = PilotRecord(
        partitions=(),
        files=(),
        target_hits=1,
        seconds_per_hit=0.01,
        memory_ratio={"preprocess": 0.5},
        failed_fraction=0.0,
        released=True,
    )
    write_record(planned.layout.pilot, record)
    sized = make_workflow(inference={"policy": "cpu-only"})
    sized.partitions(sized.layout.plan)
    assert sized.pilot_option == "--pilot work/demo/pilot.json"
    assert sized.partition_digest != before
    # 90,000 hits take 15 minutes; twice that is asked for, and ten minutes.
    assert [sized.runtime("p1", attempt) for attempt in (1, 2)] == [40, 80]
    assert sized.mem_mb("p2", 1) == 910
    assert sized.mem_mb("p2", 1, 1) == 1400, "nothing was measured of infer"
    write_record(planned.layout.pilot, record.model_copy(update={"released": False}))
    assert make_workflow().partition_digest == before


@pytest.mark.parametrize(
    ("cores", "threads"), [(None, 1), (1, 1), (2, 1), (3, 1), (4, 2), (9, 4), (16, 6), (200, 6)]
)
def test_the_cores_are_spread_over_the_jobs_of_all_partitions(planned, cores, threads):
    assert planned.threads("p1", cores) == threads


def test_job_on_another_node_reads_its_descriptor_and_not_the_plan(make_workflow):
    workflow = make_workflow(inference={"policy": "cpu-only"})
    spec = InputSpec()
    partition = Partition(
        id="p1",
        path="a",
        size=1,
        mtime_ns=1,
        sha256="",
        spec=spec,
        format="native",
        detector="protodune-sp",
        events=(),
        hits=180_000,
        mem_mb=900,
    )
    write_record(workflow.layout.descriptor("p1"), partition)
    assert workflow.mem_mb("p1", 2) == 1800
    assert workflow.runtime("p1", 1) == 13
    assert workflow.threads("p1", 1) == 1
    assert not workflow.layout.plan.exists()


def test_threads_that_are_configured_are_taken(make_workflow):
    workflow = make_workflow(inference={"threads": 12})
    write_record(workflow.layout.plan, plan_of("p1", "p2"))
    assert workflow.threads("p1", 4) == 12


def test_more_threads_get_more_memory_but_never_more_than_is_allowed(planned, make_workflow):
    requests = 3 * 8 * 512 * 9216 // 2**20
    assert planned.mem_mb("p1", 1, 1) == 700 + requests
    assert planned.mem_mb("p1", 1, 2) == 700 + requests + 128
    assert planned.mem_mb("p1", 2, 2) == 2 * (700 + requests + 128)
    assert planned.threads("p2", 200) == 1, "p2 needs 1,400 MB with one thread and may have 1,500"
    for cores in range(1, 40):
        assert planned.mem_mb("p1", 1, planned.threads("p1", cores)) <= 1500
    cpu_only = make_workflow(inference={"policy": "cpu-only"})
    cpu_only.partitions(cpu_only.layout.plan)
    assert cpu_only.mem_mb("p1", 1, 2) == 700 + 128


@pytest.mark.parametrize(
    ("policy", "clients"),
    [("endpoint-first", 1), ("endpoint-only", 1), ("cooperative", 1), ("cpu-only", 0)],
)
def test_only_jobs_that_use_an_endpoint_hold_a_client_and_bandwidth(make_workflow, policy, clients):
    workflow = make_workflow(inference={"policy": policy, "wan_mbps": 250})
    assert (workflow.gpu_clients, workflow.wan_mbps) == (clients, 250 * clients)


def test_settings_for_jobs_hold_no_machine_paths(make_workflow):
    make_workflow().prepare_jobs()
    assert str(Path.cwd()) not in json.dumps(json.loads(Path(os.environ[SETTINGS_VARIABLE]).read_text()))


def test_units_that_were_left_are_removed_when_they_are_scored(make_workflow):
    workflow = make_workflow()
    units = {name: workflow.layout.units / f"{name}.h5" for name in ("scored", "newer", "not-scored")}
    statuses = {name: workflow.layout.status(name) for name in ("scored", "newer", "removed-before")}
    for path in (*units.values(), *statuses.values()):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (1000, 1000))
    os.utime(statuses["scored"], (1001, 1001))
    os.utime(units["newer"], (1001, 1001))
    workflow.remove_scored_units()
    assert {name for name, path in units.items() if path.exists()} == {"newer", "not-scored"}
    assert all(path.exists() for path in statuses.values())


def test_a_campaign_without_units_has_none_to_remove(make_workflow):
    make_workflow().remove_scored_units()
