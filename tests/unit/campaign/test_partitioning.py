"""Partitions: every event in exactly one place, whatever the files are."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protosonic.campaign.partitioning import make_partitions, memory_of_event, partition_id, selected_hits
from protosonic.campaign.records import EventRecord, FileRecord, InputSpec, Partition, Plan
from protosonic.config import check_settings

HUGE = 10_000_000  # samples that need more memory than a job may have


@st.composite
def file_records(draw, *, distinct_events: bool = False) -> list[FileRecord]:
    """Files with events that may be empty, huge, broken or given before; some files cannot be read at all."""
    files = []
    for number, name in enumerate(draw(st.permutations("abcde"))[: draw(st.integers(0, 5))]):
        reason = draw(st.sampled_from([None, None, None, "truncated: it is short"]))
        events = [
            EventRecord(
                entry=entry,
                run=number if distinct_events else draw(st.integers(1, 2)),
                subrun=0,
                event=entry if distinct_events else draw(st.integers(1, 4)),
                hits_by_plane=tuple(draw(st.lists(st.integers(0, 40), min_size=3, max_size=3))),
                n_samples=draw(st.sampled_from([0, 500, HUGE])),
                reason=draw(st.sampled_from([None, None, None, "not-finite: it holds a NaN"])),
            )
            for entry in range(0 if reason else draw(st.integers(0, 6)))
        ]
        files.append(
            FileRecord(
                path=f"data/{name}.h5",
                sha256=name * 64,
                spec=InputSpec(),
                format=None if reason else "native",
                detector=None if reason else "protodune-sp",
                events=tuple(events),
                reason=reason,
            )
        )
    return files


settings_of = st.builds(
    lambda target, planes: check_settings(
        {
            "inputs": [{"path": "a"}],
            "partition": {"target_hits": target},
            "preprocess": {"planes": sorted(planes)},
        }
    ),
    st.integers(1, 200),
    st.sets(st.integers(0, 2), min_size=1),
)


def places(partitions: list[Partition], plan: Plan) -> Counter[tuple[str, int]]:
    planned = [(part.path, event.entry) for part in partitions for event in part.events]
    refused = [(event.path, event.entry) for event in plan.refused]
    return Counter([*planned, *refused])


@given(files=file_records(), settings=settings_of)
def test_every_event_of_every_file_lands_in_exactly_one_place(files, settings):
    partitions, plan = make_partitions(files, settings)
    expected = [(file.path, event.entry) for file in files if file.reason is None for event in file.events]
    assert places(partitions, plan) == Counter(expected)
    assert sorted(file.path for file in plan.refused_files) == sorted(f.path for f in files if f.reason)


@given(files=file_records(), settings=settings_of)
def test_partition_holds_consecutive_events_of_one_file(files, settings):
    partitions, _ = make_partitions(files, settings)
    by_path = {file.path: file for file in files}
    for partition in partitions:
        assert set(partition.events) <= set(by_path[partition.path].events)
        assert partition.sha256 == by_path[partition.path].sha256
    order = [(partition.path, event.entry) for partition in partitions for event in partition.events]
    assert order == sorted(order)


@given(files=file_records(), settings=settings_of)
def test_partition_exceeds_the_target_only_with_a_single_event(files, settings):
    partitions, _ = make_partitions(files, settings)
    for partition in partitions:
        assert partition.hits == sum(selected_hits(e, settings.preprocess.planes) for e in partition.events)
        assert partition.hits <= settings.partition.target_hits or len(partition.events) == 1


@given(files=file_records(), settings=settings_of)
def test_partition_is_closed_only_when_the_next_event_would_take_it_past_the_target(files, settings):
    partitions, _ = make_partitions(files, settings)
    for first, second in pairwise(partitions):
        if first.path == second.path:
            more = selected_hits(second.events[0], settings.preprocess.planes)
            assert first.hits + more > settings.partition.target_hits


@given(files=file_records(), settings=settings_of)
def test_every_usable_event_is_planned_exactly_once(files, settings):
    partitions, _ = make_partitions(files, settings)
    planned = Counter(event.id for partition in partitions for event in partition.events)
    usable = {
        event.id
        for file in files
        for event in file.events
        if event.reason is None and memory_of_event(event) <= settings.partition.max_mem_mb
    }
    assert planned == Counter(usable)


@given(files=file_records(), settings=settings_of, data=st.data())
def test_order_of_the_records_does_not_matter(files, settings, data):
    shuffled = data.draw(st.permutations(files))
    assert make_partitions(shuffled, settings) == make_partitions(files, settings)


@given(files=file_records(distinct_events=True), settings=settings_of, data=st.data())
def test_adding_a_file_leaves_the_partitions_of_others_as_they_were(files, settings, data):
    fewer = data.draw(st.lists(st.sampled_from(files), unique_by=lambda f: f.path)) if files else []
    before, _ = make_partitions(fewer, settings)
    after, _ = make_partitions(files, settings)
    kept = {file.path for file in fewer}
    assert before == [partition for partition in after if partition.path in kept]


@given(files=file_records(), settings=settings_of)
def test_plan_lists_the_partitions_under_distinct_names(files, settings):
    partitions, plan = make_partitions(files, settings, ["2.json", "1.json"])
    assert [(p.id, p.path, p.hits, p.mem_mb) for p in plan.partitions] == [
        (p.id, p.path, p.hits, p.mem_mb) for p in partitions
    ]
    assert len({partition.id for partition in partitions}) == len(partitions)
    assert all(re.fullmatch("[0-9a-f]{16}", partition.id) for partition in partitions)
    assert plan.catalog == ("1.json", "2.json")


@given(files=file_records(), settings=settings_of)
def test_no_partition_needs_more_memory_than_allowed(files, settings):
    partitions, _ = make_partitions(files, settings)
    for partition in partitions:
        assert partition.mem_mb == max(map(memory_of_event, partition.events))
        assert partition.mem_mb <= settings.partition.max_mem_mb


def test_events_are_grouped_up_to_the_target(make_file, make_settings):
    partitions, _ = make_partitions(
        [make_file("a", 40, 60, 1, 99, 101, 5)], make_settings(partition={"target_hits": 100})
    )
    assert [[event.entry for event in p.events] for p in partitions] == [[0, 1], [2, 3], [4], [5]]


def test_event_given_twice_is_planned_once_and_refused_with_both_places(make_file, make_settings):
    files = [make_file("b", 10, 10, 10), make_file("a", 10, 10, first=2)]
    partitions, plan = make_partitions(files, make_settings())
    assert [(p.path, [event.event for event in p.events]) for p in partitions] == [("a", [2, 3]), ("b", [1])]
    assert [event.reason for event in plan.refused] == [
        "duplicate-event: run 1 subrun 0 event 2 is given twice: in a entry 0 and in b entry 1",
        "duplicate-event: run 1 subrun 0 event 3 is given twice: in a entry 1 and in b entry 2",
    ]


def test_event_given_twice_in_one_file_is_planned_once(make_file, make_settings):
    file = make_file("a", 10, 10)
    twice = file.model_copy(
        update={"events": (file.events[0], file.events[1].model_copy(update={"event": 1}))}
    )
    partitions, plan = make_partitions([twice], make_settings())
    assert [event.entry for p in partitions for event in p.events] == [0]
    assert plan.refused[0].reason.endswith("in a entry 0 and in a entry 1")


def test_copy_of_an_event_that_cannot_be_used_is_planned(make_file, make_settings):
    broken = make_file("a", 10)
    broken = broken.model_copy(
        update={"events": (broken.events[0].model_copy(update={"reason": "corrupt: it is broken"}),)}
    )
    partitions, plan = make_partitions([broken, make_file("b", 10), make_file("c", 10)], make_settings())
    assert [partition.path for partition in partitions] == ["b"]
    assert [(event.path, event.reason) for event in plan.refused] == [
        ("a", "corrupt: it is broken"),
        ("c", "duplicate-event: run 1 subrun 0 event 1 is given twice: in b entry 0 and in c entry 0"),
    ]


def test_event_that_needs_too_much_memory_is_refused_with_the_numbers(make_file, make_settings):
    file = make_file("a", 10, HUGE)
    partitions, plan = make_partitions([file], make_settings(partition={"max_mem_mb": 1000}))
    assert [event.entry for p in partitions for event in p.events] == [0]
    [refused] = plan.refused
    assert refused.reason == (
        "too-large: the event needs more memory than a job may have (expected at most 1000 MB, "
        f"found {memory_of_event(file.events[1])} MB for {HUGE} samples). Raise partition.max_mem_mb"
    )


def test_event_may_need_all_the_memory_that_is_allowed(make_file, make_settings):
    file = make_file("a", HUGE)
    needed = memory_of_event(file.events[0])
    for limit, planned in ((needed, 1), (needed - 1, 0)):
        partitions, _ = make_partitions([file], make_settings(partition={"max_mem_mb": limit}))
        assert len(partitions) == planned


def test_refused_event_keeps_its_hits_in_the_selected_planes(make_file, make_settings):
    file = make_file("a", 1)
    event = file.events[0].model_copy(update={"hits_by_plane": (1, 20, 300), "reason": "broken: it is"})
    file = file.model_copy(update={"events": (event,)})
    for planes, hits in (([0, 1, 2], 321), ([2], 300), ([0, 1], 21)):
        _, plan = make_partitions([file], make_settings(preprocess={"planes": planes}))
        assert [refused.hits for refused in plan.refused] == [hits]


def test_file_that_cannot_be_read_is_kept_with_its_reason(make_file, make_settings):
    bad = make_file("bad", format=None, detector=None, reason="empty-file: the file is empty")
    partitions, plan = make_partitions([bad, make_file("good", 5)], make_settings())
    assert plan.refused_files == (bad,)
    assert [partition.path for partition in partitions] == ["good"]


def test_memory_grows_with_samples_and_hits():
    def needed(hits: int, samples: int) -> int:
        return memory_of_event(
            EventRecord(entry=0, run=1, subrun=0, event=1, hits_by_plane=(hits,), n_samples=samples)
        )

    assert needed(0, 0) < needed(0, 10**6) < needed(10**6, 10**6)


@pytest.mark.parametrize(
    "change", [{"sha256": "other"}, {"spec": InputSpec(charge_scale=2.0)}, {"events": ()}, {"first": 7}]
)
def test_name_of_a_partition_follows_from_its_content(make_file, change):
    file, other = make_file("a", 5, 5), make_file("a", 5, 5, **change)
    assert partition_id(file, file.events) != partition_id(other, other.events)


def test_name_of_a_partition_does_not_depend_on_the_name_of_the_file(make_file):
    file = make_file("a", 5, 5)
    moved = file.model_copy(update={"path": "elsewhere/b", "mtime_ns": 2})
    assert partition_id(file, file.events) == partition_id(moved, moved.events)
