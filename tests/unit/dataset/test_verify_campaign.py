"""``protosonic verify``: the dataset against the plan and the inputs."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from protosonic.stages.verify import verify_campaign


@contextlib.contextmanager
def edited_record(campaign, name: str):
    """Change the catalog's record of a file."""
    for path in campaign.layout.catalog.iterdir():
        content = json.loads(path.read_text())
        [record] = [record for record in content["files"] if record["path"].endswith(name)] or [None]
        if record is not None:
            yield record
            path.write_text(json.dumps(content))
            return


def test_untouched_campaign_is_proven_with_its_inputs(finished):
    assert verify_campaign(finished.layout, inputs=True) == []


def test_campaign_is_verified_from_any_folder(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert verify_campaign(finished.layout, inputs=True) == []


def test_results_are_verified_without_the_work_folder(campaign):
    campaign.layout.work.rename(campaign.workdir / "elsewhere")
    assert verify_campaign(campaign.layout) == []


def test_event_of_the_catalog_that_is_not_accounted_for_is_found(campaign):
    with edited_record(campaign, "-0000.h5") as record:
        record["events"].append(record["events"][1] | {"entry": 2, "event": 9, "hits_by_plane": [1, 2, 3]})
        path = record["path"]
    assert verify_campaign(campaign.layout) == [
        f"{path} entry 2: the accounting has nothing, the catalog run 1 subrun 0 event 9 with 3 hits"
    ]


def test_accounted_event_that_is_not_in_the_catalog_is_found(campaign):
    with edited_record(campaign, "-0001.h5") as record:
        del record["events"][1]
        path = record["path"]
    [problem] = verify_campaign(campaign.layout)
    assert problem.startswith(f"{path} entry 1: the accounting has run 1 subrun 0 event 4 with ")
    assert problem.endswith(" hits, the catalog nothing")


@pytest.mark.parametrize("change", [{"event": 9}, {"run": 9}, {"hits_by_plane": [0, 0, 1]}])
def test_event_that_differs_from_the_catalog_is_found(campaign, change):
    with edited_record(campaign, "-0000.h5") as record:
        record["events"][0] |= change
        path = record["path"]
    [problem] = verify_campaign(campaign.layout)
    assert problem.startswith(f"{path} entry 0: the accounting has run 1 subrun 0 event 1 with ")


def test_file_that_could_be_read_after_all_is_found(campaign):
    with edited_record(campaign, "empty.h5") as record:
        record["reason"] = None
    assert verify_campaign(campaign.layout) == [
        "data/empty.h5: the accounting has the whole file, the catalog nothing"
    ]


def test_problems_come_in_order_of_file_and_entry(campaign):
    for name in ("-0001.h5", "-0000.h5"):
        with edited_record(campaign, name) as record:
            record["events"] = []
    problems = verify_campaign(campaign.layout)
    assert len(problems) == 4
    assert problems == sorted(problems)


@pytest.mark.parametrize("folder", ["catalog", "plan.json"])
def test_damaged_plan_is_found(campaign, folder):
    path = campaign.layout.work / folder
    path = path if path.is_file() else min(path.iterdir())
    path.write_text("{")
    [problem] = verify_campaign(campaign.layout)
    assert problem.startswith(f"{path}: the record is damaged")


def test_problems_of_the_dataset_are_reported_alone(campaign):
    min(campaign.layout.hits.iterdir()).unlink()
    campaign.layout.plan.write_text("{")
    assert verify_campaign(campaign.layout, inputs=True) == ["hits/part-00000.parquet: missing"]


def test_changed_input_is_found_when_inputs_are_read(campaign):
    [path] = (campaign.workdir / "data").glob("*-0000.h5")
    path.write_bytes(path.read_bytes() + b"x")
    assert verify_campaign(campaign.layout) == []
    assert verify_campaign(campaign.layout, inputs=True) == [
        f"data/{path.name}: the input file is no longer the one that was processed"
    ]


def test_missing_input_is_found_when_inputs_are_read(campaign):
    [path] = (campaign.workdir / "data").glob("*-0000.h5")
    path.unlink()
    assert verify_campaign(campaign.layout, inputs=True) == [
        f"data/{path.name}: the input file cannot be read: No such file or directory"
    ]


def test_verification_changes_nothing(campaign):
    def state() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in campaign.workdir.rglob("*")}

    before = state()
    verify_campaign(campaign.layout, inputs=True)
    assert state() == before
