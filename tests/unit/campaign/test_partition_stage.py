"""The partition stage: descriptors and the plan on disk."""

from __future__ import annotations

import pytest

from protosonic.campaign.records import CatalogBlock, Partition, Plan, read_record, write_record
from protosonic.errors import VerificationError
from protosonic.stages.partition import partition_campaign


@pytest.fixture
def run(tmp_path, make_file, make_settings):
    """Partition files that are given by path and hits; returns the plan."""

    def partition(**files: tuple[int, ...]) -> Plan:
        blocks = []
        for number, (name, hits) in enumerate(files.items()):
            blocks.append(tmp_path / "catalog" / f"{name}.json")
            write_record(
                blocks[-1],
                CatalogBlock(package_version="1", files=(make_file(name, *hits, first=100 * number),)),
            )
        settings = make_settings(partition={"target_hits": 10})
        return partition_campaign(blocks, settings, tmp_path / "partitions", tmp_path / "plan.json")

    return partition


def descriptors(folder) -> dict[str, Partition]:
    return {path.stem: read_record(path, Partition) for path in (folder / "partitions").iterdir()}


def test_every_planned_partition_has_a_descriptor(run, tmp_path):
    plan = run(a=(5, 5, 5), b=(7,))
    found = descriptors(tmp_path)
    assert [found[p.id].path for p in plan.partitions] == ["a", "a", "b"]
    assert len(found) == 3
    assert all(name == partition.id for name, partition in found.items())
    assert read_record(tmp_path / "plan.json", Plan) == plan
    assert plan.catalog == ("a.json", "b.json")


def test_descriptors_that_are_no_longer_planned_vanish(run, tmp_path):
    run(a=(5, 5, 5), b=(7,))
    before = descriptors(tmp_path)
    run(a=(5, 5, 5))
    after = descriptors(tmp_path)
    assert after == {name: partition for name, partition in before.items() if partition.path == "a"}


def test_campaign_without_events_has_an_empty_plan(run, tmp_path):
    assert run(a=()).partitions == ()
    assert descriptors(tmp_path) == {}


def test_damaged_catalog_leaves_the_older_plan(run, tmp_path, make_settings):
    plan = run(a=(5,))
    (tmp_path / "catalog" / "a.json").write_text("{")
    with pytest.raises(VerificationError, match=r"a\.json: "):
        partition_campaign(
            [tmp_path / "catalog" / "a.json"],
            make_settings(),
            tmp_path / "partitions",
            tmp_path / "plan.json",
        )
    assert read_record(tmp_path / "plan.json", Plan) == plan
    assert len(descriptors(tmp_path)) == 1
