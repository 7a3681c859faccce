"""Which partitions are the pilot, and how it sizes the others."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protosonic.campaign.partitioning import make_partitions
from protosonic.campaign.pilot import choose_pilot
from protosonic.campaign.records import PilotRecord, PlannedPartition


def pilot_record(**changes) -> PilotRecord:
    return PilotRecord.model_validate(
        {
            "partitions": [],
            "files": [],
            "target_hits": 10,
            "seconds_per_hit": 0.5,
            "memory_ratio": {},
            "failed_fraction": 0.0,
            "released": True,
        }
        | changes
    )


def planned(n: int) -> list[PlannedPartition]:
    return [PlannedPartition(id=f"{number:016x}", path="a", hits=1, mem_mb=1) for number in range(n)]


@given(n=st.integers(1, 300), number=st.integers(1, 400))
def test_the_pilot_is_spread_evenly_and_has_every_partition_at_most_once(n, number):
    places = [int(partition.id, 16) for partition in choose_pilot(planned(n), number)]
    assert len(places) == len(set(places)) == min(n, number)
    assert all(0 <= place < n for place in places)
    steps = {after - before for before, after in itertools.pairwise(places)}
    assert not steps or max(steps) - min(steps) <= 1


def test_no_partitions_give_no_pilot():
    assert choose_pilot([], 3) == []


def test_files_of_the_pilot_stay_as_they_were_and_others_are_cut_by_time(make_file, make_settings):
    settings = make_settings(partition={"target_hits": 10, "target_minutes": 0.5})
    files = [make_file("a", 5, 5, 5), make_file("b", 5, *[10] * 11, first=10)]
    before, _ = make_partitions(files, settings)
    record = pilot_record(files=[files[0].sha256], seconds_per_hit=0.5)
    after, _ = make_partitions(files, settings, pilot=record)
    assert [p.id for p in after if p.path == "a"] == [p.id for p in before if p.path == "a"]
    # Half a minute at half a second a hit is 60 hits.
    assert [p.hits for p in after if p.path == "b"] == [55, 60]
    assert [p.hits for p in before if p.path == "b"] == [5, *[10] * 11]


def test_another_target_in_the_configuration_leaves_files_of_the_pilot_alone(make_file, make_settings):
    files = [make_file("a", 5, 5, 5)]
    record = pilot_record(files=[files[0].sha256])
    one, _ = make_partitions(files, make_settings(partition={"target_hits": 10}), pilot=record)
    two, _ = make_partitions(files, make_settings(partition={"target_hits": 5}), pilot=record)
    assert [p.id for p in one] == [p.id for p in two]


@pytest.mark.parametrize("seconds", [None, 0.0])
def test_a_pilot_without_hits_changes_nothing(make_file, make_settings, seconds):
    files, settings = [make_file("a", 5, 5, 5)], make_settings(partition={"target_hits": 10})
    record = pilot_record(seconds_per_hit=seconds)
    assert make_partitions(files, settings, pilot=record) == make_partitions(files, settings)
