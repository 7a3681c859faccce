"""The same answer however a campaign is cut, and nothing done twice."""

from __future__ import annotations

import os
import re

import pyarrow as pa
import pytest

from support.campaign import assert_same_hits, protosonic

NETWORK = {"path": "bundled"}
"""The real network: its scores could depend on which hits are scored together."""


def executed(output: str) -> dict[str, int]:
    """Rule → number of jobs, from Snakemake's last table of jobs."""
    tables = re.findall(r"^job +count\n[- ]+\n((?:\S+ +\d+\n)+)", output, flags=re.MULTILINE)
    finished = re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", output)
    assert tables or not finished
    return {rule: finished.count(rule) for rule in sorted(set(finished))}


@pytest.mark.parametrize(("cores", "target_hits", "n_partitions"), [(1, 1000, 6), (1, 100_000, 3)])
def test_cores_and_partition_size_do_not_change_the_dataset(
    make_campaign, simulated, quiet, cores, target_hits, n_partitions
):
    campaign = make_campaign(
        inputs=[{"path": f"{simulated}/*.h5"}], partition={"target_hits": target_hits}, model=NETWORK
    )
    campaign.run(cores=cores)
    campaign.verify()
    assert len(list((campaign.work / "scores").iterdir())) == n_partitions
    assert_same_hits(campaign.hits(), quiet.hits())


def test_the_order_of_files_does_not_change_the_dataset(make_campaign, simulated, quiet):
    files = sorted(simulated.glob("*.h5"))
    campaign = make_campaign(
        inputs=[{"path": str(path)} for path in reversed(files)],
        partition={"target_hits": 1000},
        merge={"target_rows": 700, "row_group_rows": 300, "bundle_partitions": 1},
        model=NETWORK,
    )
    campaign.run(cores=2)
    campaign.verify()
    assert len(list((campaign.work / "scores").iterdir())) == 6
    assert_same_hits(campaign.hits(), quiet.hits())
    rows = [entry["rows"] for entry in campaign.campaign()["dataset"]["files"]]
    assert rows[:-1] == [700] * (len(rows) - 1)
    assert 0 < rows[-1] <= 700


def test_a_finished_campaign_has_nothing_to_do(quiet):
    before = (quiet.results / "campaign.json").stat().st_mtime_ns
    output = quiet.run()
    assert "Nothing to be done" in output
    assert (quiet.results / "campaign.json").stat().st_mtime_ns == before


def test_adding_a_file_recomputes_nothing_that_existed(finished, linear):
    before = {path: path.stat().st_mtime_ns for path in (finished.work / "scores").iterdir()}
    data = str(finished.workdir / "data")
    protosonic("simulate", data, "--events", "2", "--hits", "300", "--run", "2", "--seed", "8")
    again = executed(finished.run())
    assert (again["preprocess"], again["infer"], again["catalog"]) == (1, 1, 1)
    assert "model" not in again
    assert {path: path.stat().st_mtime_ns for path in before} == before
    finished.verify()
    hits = finished.hits()
    assert_same_hits(hits.filter(pa.compute.equal(hits["run"], 1)), linear.hits())
    assert [(row["run"], row["event"]) for row in finished.accounting()][-2:] == [(2, 1), (2, 2)]


def test_removing_a_file_removes_its_events_and_recomputes_nothing(finished):
    max(finished.workdir.glob("data/*.h5")).unlink()
    again = executed(finished.run())
    assert "infer" not in again
    assert again["merge"] == 1
    finished.verify()
    assert len(finished.accounting()) == 4


def test_a_changed_file_is_read_again_and_nothing_else(finished):
    data = str(finished.workdir / "data")
    protosonic("simulate", data, "--files", "1", "--events", "2", "--hits", "300", "--seed", "8")
    again = executed(finished.run())
    assert (again["catalog"], again["preprocess"], again["infer"]) == (1, 1, 1)
    finished.verify()


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
def test_a_change_of_the_configuration_reruns_what_depends_on_it_in_one_go(finished, change, reruns, keeps):
    finished.config |= change
    again = executed(finished.run())
    assert reruns <= set(again)
    assert not keeps & set(again)
    assert "Nothing to be done" in finished.run()
    finished.verify()


def test_a_touched_file_with_the_same_content_is_not_classified_again(finished):
    os.utime(min(finished.workdir.glob("data/*.h5")))
    again = executed(finished.run())
    assert "infer" not in again
    assert "Nothing to be done" in finished.run()
