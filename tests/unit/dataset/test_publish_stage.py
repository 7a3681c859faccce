"""Publishing: whole or not at all, whatever happens in between."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from rocrate.rocrate import ROCrate

from protosonic.dataset.verification import verify_dataset
from protosonic.errors import AcceptanceError, ConfigError, TransientError, VerificationError
from protosonic.publication.description import PublishOptions
from protosonic.stages import publish
from protosonic.stages.publish import publish_campaign

OPTIONS = PublishOptions("usertests", fields={"core.file_type": "mc", "core.data_stream": "simulation"})
STEPS = ["_begin", "_write", "_verify", "_declare", "_expose", "_published"]


@pytest.fixture
def good(campaign):
    campaign.merge(acceptance={"max_quarantined_fraction": 1.0})
    return campaign


def visible(to) -> list[str]:
    return [path.name for path in to.iterdir() if not path.name.startswith(".")]


def test_a_publication_is_a_whole_dataset_with_descriptions(good, tmp_path):
    to = tmp_path / "out"
    publication = publish_campaign(good.layout, to, OPTIONS)
    assert publication.is_new
    assert publication.missing == ()
    assert publication.folder == to / "tiny"
    assert verify_dataset(to / "tiny") == []
    assert visible(to) == ["tiny"]
    record = json.loads((to / "tiny" / "publication.json").read_text())
    assert record["phase"] == "declared"
    descriptions = json.loads((to / "tiny" / "metacat.json").read_text())
    assert sum("part-" in entry["name"] for entry in descriptions) == len(list(good.layout.hits.iterdir()))
    names = dict(line.split("\t") for line in (to / "tiny" / "names.tsv").read_text().splitlines())
    for entry in descriptions:
        assert (to / "tiny" / names[entry["name"]]).stat().st_size == entry["size"]
        assert json.loads((to / "tiny" / "metacat" / f"{entry['name']}.json").read_text()) == entry
    replicas = json.loads((to / "tiny" / "rucio.json").read_text())
    assert [(r["name"], r["adler32"]) for r in replicas] == [
        (d["name"], d["checksums"]["adler32"]) for d in descriptions
    ]
    [accounting] = [entry for entry in descriptions if "accounting" in entry["name"]]
    assert accounting["metadata"]["core.event_count"] == 4, (
        "a file that could not be read holds no known event"
    )


def test_the_reference_library_reads_the_crate(good, tmp_path):
    publish_campaign(good.layout, tmp_path, OPTIONS)
    crate = ROCrate(tmp_path / "tiny")
    assert crate.mainEntity.id == "workflow/Snakefile"
    action = crate.get("#campaign")
    assert action.type == "CreateAction"
    assert {entity.id for entity in action["result"]} >= {"accounting.parquet", "hits/part-00000.parquet"}
    assert all(entity["identifier"].startswith("sha256:") for entity in action["object"])
    for entity in crate.data_entities:
        assert (tmp_path / "tiny" / entity.id).is_file()


def test_publishing_again_changes_nothing(good, tmp_path):
    publish_campaign(good.layout, tmp_path / "out", OPTIONS)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "tiny").rglob("*")}
    assert not publish_campaign(good.layout, tmp_path / "out", OPTIONS).is_new
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "tiny").rglob("*")} == before


def test_other_descriptions_replace_the_old_ones_without_copying_the_data(good, tmp_path, monkeypatch):
    publish_campaign(good.layout, tmp_path / "out", PublishOptions())
    monkeypatch.setattr(publish, "copy_file", None)
    publication = publish_campaign(good.layout, tmp_path / "out", OPTIONS)
    assert publication.is_new
    assert publication.missing == ()
    assert verify_dataset(publication.folder) == []
    assert visible(tmp_path / "out") == ["tiny"]
    assert not list((tmp_path / "out").glob(".*ing")) + list((tmp_path / "out").glob(".*replaced"))


@pytest.mark.parametrize("first", [False, True], ids=["new", "described anew"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_interrupted_at_any_step_nothing_is_half_published_and_the_next_call_ends_it(
    good, tmp_path, monkeypatch, step, when, first
):
    to = tmp_path / "out"
    if first:
        publish_campaign(good.layout, to, PublishOptions())
    real = getattr(publish, step)

    def interrupted(*arguments):
        if when == "after":
            real(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(publish, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            publish_campaign(good.layout, to, OPTIONS)
    for name in visible(to):
        assert verify_dataset(to / name) == []
        assert json.loads((to / name / "publication.json").read_text())["phase"] == "declared"
    publication = publish_campaign(good.layout, to, OPTIONS)
    assert verify_dataset(publication.folder) == []
    assert publication.missing == ()


def test_killed_between_the_two_renames_the_next_call_ends_it(good, tmp_path, monkeypatch):
    to = tmp_path / "out"
    publish_campaign(good.layout, to, PublishOptions())
    with monkeypatch.context() as patch:
        patch.setattr(publish, "fsync_path", lambda path: 1 / 0 if path == to else None)
        with pytest.raises(ZeroDivisionError):
            publish_campaign(good.layout, to, OPTIONS)
    shutil.move(to / "tiny", to / ".tiny.publishing")
    publish_campaign(good.layout, to, OPTIONS)
    assert verify_dataset(to / "tiny") == []
    assert not (to / ".tiny.replaced").exists()


def test_a_copy_that_was_damaged_is_written_again(good, tmp_path, monkeypatch):
    to = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(publish, "_verify", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            publish_campaign(good.layout, to, OPTIONS)
    part = to / ".tiny.publishing" / "hits" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-1])
    publish_campaign(good.layout, to, OPTIONS)
    assert verify_dataset(to / "tiny") == []


def test_a_source_that_is_damaged_is_not_published(good, tmp_path):
    part = next(iter(good.layout.hits.iterdir()))
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    with pytest.raises(VerificationError, match="not the one that was merged"):
        publish_campaign(good.layout, tmp_path / "out", OPTIONS)
    assert visible(tmp_path / "out") == []


def test_another_dataset_of_that_name_is_not_overwritten(good, tmp_path):
    publish_campaign(good.layout, tmp_path / "out", OPTIONS)
    good.merge(acceptance={"max_quarantined_fraction": 0.9})
    with pytest.raises(ConfigError, match="another dataset was published under this name"):
        publish_campaign(good.layout, tmp_path / "out", OPTIONS)
    (tmp_path / "other" / "tiny").mkdir(parents=True)
    with pytest.raises(ConfigError, match="no publication of protosonic"):
        publish_campaign(good.layout, tmp_path / "other", OPTIONS)


def test_a_published_file_that_was_lost_is_noticed(good, tmp_path):
    publish_campaign(good.layout, tmp_path / "out", OPTIONS)
    (tmp_path / "out" / "tiny" / "report.html").unlink(missing_ok=True)
    (tmp_path / "out" / "tiny" / "accounting.parquet").unlink()
    with pytest.raises(VerificationError, match="missing or was cut"):
        publish_campaign(good.layout, tmp_path / "out", OPTIONS)


def test_what_is_not_accepted_or_not_finished_is_not_published(campaign, tmp_path):
    with pytest.raises(AcceptanceError):
        publish_campaign(campaign.layout, tmp_path / "out", OPTIONS)
    next(iter((campaign.layout.work / "status").iterdir())).unlink()
    with pytest.raises(ConfigError, match="the campaign is incomplete"):
        publish_campaign(campaign.layout, tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out").exists()


def test_two_publishers_do_not_work_at_the_same_time(good, tmp_path, monkeypatch):
    def second(*arguments):
        with pytest.raises(TransientError, match="something else is publishing"):
            publish_campaign(good.layout, tmp_path / "out", OPTIONS)
        os.environ["PROTOSONIC_TEST_SEEN"] = "1"

    monkeypatch.setenv("PROTOSONIC_TEST_SEEN", "")
    with monkeypatch.context() as patch:
        patch.setattr(publish, "_begin", second)
        with pytest.raises(FileNotFoundError):
            publish_campaign(good.layout, tmp_path / "out", OPTIONS)
    assert os.environ["PROTOSONIC_TEST_SEEN"] == "1"
