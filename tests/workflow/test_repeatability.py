"""The same answer however a campaign is cut, and nothing done twice."""

from __future__ import annotations

import os
import re
import shutil

import pytest

from support.campaign import assert_same_hits, protosonic


def executed(output: str) -> dict[str, int]:
    """Rule → number of jobs, from Snakemake's last table of jobs."""
    tables = re.findall(r"^job +count\n[- ]+\n((?:\S+ +\d+\n)+)", output, flags=re.MULTILINE)
    finished = re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", output)
    assert tables or not finished
    return {rule: finished.count(rule) for rule in sorted(set(finished))}


@pytest.mark.parametrize(
    ("cores", "partition"),
    [(1, {"target_hits": 1000}), (2, {"target_hits": 1000}), (1, {"target_hits": 100_000})],
)
def test_cores_and_partition_size_do_not_change_the_dataset(
    make_campaign, simulated, quiet, cores, partition
):
    campaign = make_campaign(inputs=[{"path": f"{simulated}/*.h5"}], partition=partition)
    campaign.run(cores=cores)
    campaign.verify()
    n_partitions = len(list((campaign.work / "scores").iterdir()))
    assert n_partitions == (6 if partition["target_hits"] == 1000 else 3)
    assert_same_hits(campaign.hits(), quiet.hits())


def test_the_order_of_files_does_not_change_the_dataset(make_campaign, simulated, quiet):
    files = sorted(simulated.glob("*.h5"))
    campaign = make_campaign(
        inputs=[{"path": str(path)} for path in reversed(files)],
        merge={"target_rows": 700, "row_group_rows": 300},
    )
    campaign.run()
    campaign.verify()
    assert_same_hits(campaign.hits(), quiet.hits())
    rows = [entry["rows"] for entry in campaign.campaign()["dataset"]["files"]]
    assert rows[:-1] == [700] * (len(rows) - 1)
    assert 0 < rows[-1] <= 700


def test_a_finished_campaign_has_nothing_to_do(quiet):
    before = (quiet.results / "campaign.json").stat().st_mtime_ns
    output = quiet.run()
    assert "Nothing to be done" in output
    assert (quiet.results / "campaign.json").stat().st_mtime_ns == before


def test_adding_a_file_recomputes_nothing_that_existed(make_campaign, simulated, tmp_path, quiet):
    data = tmp_path / "data"
    data.mkdir()
    files = sorted(simulated.glob("*.h5"))
    for path in files[:2]:
        shutil.copy2(path, data)
    campaign = make_campaign(inputs=[{"path": f"{data}/*.h5"}])
    first = executed(campaign.run())
    assert first["preprocess"] == first["infer"] == 2
    before = {path: path.stat().st_mtime_ns for path in (campaign.work / "scores").iterdir()}
    shutil.copy2(files[2], data)
    second = executed(campaign.run())
    assert (second["preprocess"], second["infer"], second["catalog"]) == (1, 1, 1)
    assert "model" not in second
    assert {path: path.stat().st_mtime_ns for path in before} == before
    campaign.verify()
    assert_same_hits(campaign.hits(), quiet.hits())


def test_removing_a_file_removes_its_events_and_recomputes_nothing(make_campaign, simulated, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(simulated, data)
    campaign = make_campaign(inputs=[{"path": f"{data}/*.h5"}])
    campaign.run()
    max(data.glob("*.h5")).unlink()
    again = executed(campaign.run())
    assert "infer" not in again
    assert again["merge"] == 1
    campaign.verify()
    assert len(campaign.accounting()) == 4


def test_a_changed_file_is_read_again_and_nothing_else(make_campaign, simulated, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(simulated, data)
    campaign = make_campaign(inputs=[{"path": f"{data}/*.h5"}])
    campaign.run()
    protosonic("simulate", str(data), "--files", "1", "--events", "2", "--hits", "300", "--seed", "8")
    again = executed(campaign.run())
    assert (again["catalog"], again["preprocess"], again["infer"]) == (1, 1, 1)
    campaign.verify()


@pytest.mark.parametrize(
    ("change", "reruns", "keeps"),
    [
        ({"merge": {"target_rows": 500}}, {"merge", "report"}, {"catalog", "preprocess", "infer", "model"}),
        (
            {"preprocess": {"planes": [2]}},
            {"partition", "preprocess", "infer", "merge"},
            {"catalog", "model"},
        ),
        (
            {
                "inference": {
                    "policy": "cpu-only",
                    "threads": 2,
                    "endpoints": [{"url": "grpcs://other.example.org:443", "headers": {"x-team": "dune"}}],
                    "max_in_flight": 2,
                    "latency_target_s": 9,
                    "request_bytes": 100_000,
                    "request_timeout_s": 9,
                    "patience_s": 9,
                    "retries": 1,
                }
            },
            set(),
            {"catalog", "preprocess", "infer", "model"},
        ),
        (
            {"inference": {"policy": "cpu-only", "threads": 1, "tolerance": 1e-6}},
            {"preprocess", "infer", "merge"},
            {"catalog", "model"},
        ),
    ],
    ids=["merge", "planes", "dispatch", "tolerance"],
)
def test_a_change_of_the_configuration_reruns_what_depends_on_it_in_one_go(
    make_campaign, simulated, change, reruns, keeps
):
    campaign = make_campaign(inputs=[{"path": f"{simulated}/*.h5"}])
    campaign.run()
    campaign.config |= change
    again = executed(campaign.run())
    assert reruns <= set(again)
    assert not keeps & set(again)
    assert "Nothing to be done" in campaign.run()
    campaign.verify()


def test_a_touched_file_with_the_same_content_is_not_classified_again(make_campaign, simulated, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(simulated, data)
    campaign = make_campaign(inputs=[{"path": f"{data}/*.h5"}])
    campaign.run()
    os.utime(min(data.glob("*.h5")))
    again = executed(campaign.run())
    assert "infer" not in again
    assert "Nothing to be done" in campaign.run()
