"""The merge stage: nothing is published unless everything fits."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from protosonic.campaign.acceptance import check_acceptance
from protosonic.config import Settings, check_settings
from protosonic.dataset.schema import SORT_KEYS
from protosonic.dataset.scores import footer_of
from protosonic.dataset.verification import verify_dataset
from protosonic.errors import AcceptanceError, VerificationError
from protosonic.publish import sha256_of_json
from protosonic.stages.verify import verify_campaign


def with_sections(campaign, **sections: dict) -> Settings:
    return check_settings(campaign.settings.model_dump() | sections)


def hashes(content: dict) -> list[str]:
    return [entry["sha256"] for entry in [*content["dataset"]["files"], content["dataset"]["accounting"]]]


def test_every_planned_event_is_done_or_quarantined(finished):
    content = json.loads(finished.layout.campaign.read_text())
    rows = pq.read_table(finished.layout.accounting).to_pylist()
    assert [(row["event"], row["state"], bool(row["reason"])) for row in rows] == [
        (None, "quarantined", True),
        (1, "done", False),
        (2, "done", False),
        (3, "done", False),
        (4, "quarantined", True),
    ]
    assert rows[0]["reason"].startswith("empty-file: ")
    assert rows[4]["reason"].startswith("not-finite: ")
    assert content["totals"]["events_planned"] == 5
    assert content["totals"]["events_done"] == 3
    assert content["totals"]["quarantined_fraction"] == 0.4
    assert content["totals"]["hits_done"] == len(finished.hits()) > 120


def test_dataset_is_sorted_in_files_of_the_set_size(finished):
    hits = finished.hits()
    assert hits.equals(hits.sort_by([(key, "ascending") for key in SORT_KEYS]))
    sizes = [pq.read_metadata(path).num_rows for path in sorted(finished.layout.hits.iterdir())]
    assert len(sizes) > 2
    assert set(sizes[:-1]) == {60}
    assert 0 < sizes[-1] <= 60


def test_every_file_names_the_provenance_of_the_campaign(finished):
    provenance = json.loads(finished.layout.campaign.read_text())["provenance"]
    for path in (finished.layout.accounting, *finished.layout.hits.iterdir()):
        footer = footer_of(path)
        assert footer["provenance_sha256"] == sha256_of_json(provenance)
        assert footer["model"]["sha256"] == provenance["model"]["sha256"]
        assert footer["settings"] == provenance["settings"]
        assert "" not in footer["input_sha256"]


def test_merging_again_gives_the_same_bytes(campaign):
    before = json.loads(campaign.layout.campaign.read_text())
    assert hashes(campaign.merge()) == hashes(before)


def test_merging_with_other_sizes_gives_the_same_rows(campaign):
    before = campaign.hits()
    content = campaign.merge(merge={"target_rows": 10_000, "row_group_rows": 7})
    assert len(content["dataset"]["files"]) == 1
    assert campaign.hits().equals(before)
    assert verify_campaign(campaign.layout, inputs=True) == []


def test_merging_bundles_gives_the_same_rows(campaign):
    before, accounting = campaign.hits(), pq.read_table(campaign.layout.accounting)
    campaign = replace(campaign, settings=with_sections(campaign, partition={"target_hits": 1}))
    campaign.score(campaign.plan())
    sections = {"merge": {"bundle_partitions": 1}}
    assert campaign.collect(**sections) == 4
    for folder in ("scores", "status"):
        shutil.rmtree(campaign.layout.work / folder)
    campaign.merge(**sections)
    assert campaign.hits().equals(before)
    assert pq.read_table(campaign.layout.accounting).drop("partition").equals(accounting.drop("partition"))
    assert verify_campaign(campaign.layout, inputs=True) == []


def test_damaged_bundle_is_refused(campaign):
    campaign = replace(campaign, settings=with_sections(campaign, partition={"target_hits": 1}))
    plan = campaign.plan()
    campaign.score(plan)
    sections = {"merge": {"bundle_partitions": 1}}
    campaign.collect(**sections)
    campaign.layout.scores(plan.partitions[0].id).unlink()
    with pytest.raises(VerificationError, match="the scores are missing or not those"):
        campaign.collect(**sections)
    [*_, path] = sorted((campaign.layout.work / "bundles").glob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(VerificationError, match="the scores are missing or not those"):
        campaign.merge(**sections)


def test_file_that_was_renamed_after_scoring_is_named_as_it_is_now(campaign):
    [path] = (campaign.workdir / "data").glob("*-0000.h5")
    path.rename(path.with_name("renamed.h5"))
    campaign.plan()
    campaign.merge()
    files = pq.read_table(campaign.layout.accounting)["file"].to_pylist()
    assert files.count("data/renamed.h5") == 2
    assert verify_campaign(campaign.layout, inputs=True) == []


def test_campaign_of_which_everything_is_quarantined_is_whole(campaign):
    for path in (campaign.workdir / "data").glob("proto*.h5"):
        path.write_bytes(b"")
    assert campaign.plan().partitions == ()
    content = campaign.merge()
    assert content["totals"]["quarantined_fraction"] == 1.0
    assert content["totals"]["hits_done"] == len(campaign.hits()) == 0
    assert verify_campaign(campaign.layout, inputs=True) == []
    assert verify_dataset(campaign.results) == []


def assert_refused(campaign, message: str) -> None:
    """Merging is refused and what was published before stays."""
    before = {path: path.read_bytes() for path in campaign.results.rglob("*") if path.is_file()}
    with pytest.raises(VerificationError, match=message):
        campaign.merge()
    assert {path: path.read_bytes() for path in campaign.results.rglob("*") if path.is_file()} == before
    assert not list(campaign.results.rglob(".*"))


def first(campaign, folder: str):
    return min((campaign.layout.work / folder).iterdir())


def edit_status(campaign, **changes) -> None:
    path = first(campaign, "status")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_missing_scores_are_refused(campaign):
    first(campaign, "scores").unlink()
    assert_refused(campaign, r"\.parquet: the scores are missing or not those that the status describes")


def test_changed_scores_are_refused(campaign):
    path = first(campaign, "scores")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert_refused(campaign, rf"{path.name}: the scores are missing or not those")


def test_missing_status_is_refused(campaign):
    path = first(campaign, "status")
    path.unlink()
    assert_refused(campaign, rf"{path.name}: the record is missing")


def test_status_with_other_rows_is_refused(campaign):
    edit_status(campaign, rows=1)
    assert_refused(campaign, r"the scores have another number of rows \(expected 1, found")


def test_status_of_another_model_is_refused(campaign):
    edit_status(campaign, model_sha256="other")
    assert_refused(campaign, "partitions differ in model_sha256")


def test_missing_catalog_is_refused(campaign):
    first(campaign, "catalog").unlink()
    assert_refused(campaign, r"catalog/.*\.json: the record is missing")


@pytest.mark.parametrize(("limit", "accepted"), [(0.0, False), (0.39, False), (0.4, True), (1.0, True)])
def test_campaign_is_accepted_up_to_the_fraction_that_is_configured(campaign, limit, accepted):
    content = campaign.merge(acceptance={"max_quarantined_fraction": limit})
    assert content["acceptance"] == {"max_quarantined_fraction": limit, "accepted": accepted}
    assert verify_dataset(campaign.results) == []
    if accepted:
        check_acceptance(content)
    else:
        with pytest.raises(AcceptanceError, match=rf"2 of 5 planned events .*at most {limit}, found 0\.4\)"):
            check_acceptance(content)


def test_settings_of_the_merge_are_in_the_provenance(campaign):
    content = campaign.merge(acceptance={"max_quarantined_fraction": 0.5})
    settings = check_settings(content["provenance"]["settings"])
    assert settings.acceptance.max_quarantined_fraction == 0.5
    assert settings.preprocess == campaign.settings.preprocess
