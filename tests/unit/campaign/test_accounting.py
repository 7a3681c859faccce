"""The account of every planned event."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protosonic.campaign.accounting import accounting_table, check_statuses
from protosonic.campaign.records import (
    BackendUse,
    EventStatus,
    PartitionStatus,
    Plan,
    PlannedPartition,
    RefusedEvent,
)
from protosonic.dataset.accounting import totals
from protosonic.dataset.schema import ACCOUNTING_SCHEMA
from protosonic.errors import VerificationError


def event_status(number: int, triton: int = 0, onnxruntime: int = 0, **changes) -> EventStatus:
    status = EventStatus(
        entry=number,
        run=1,
        subrun=0,
        event=number,
        hits_planned=triton + onnxruntime,
        hits_done=triton + onnxruntime,
        state="done",
        backends={"triton": triton, "onnxruntime": onnxruntime},
    )
    return status.model_copy(update=changes)


def quarantined(number: int, hits: int) -> EventStatus:
    return event_status(
        number, hits_planned=hits, state="quarantined", reason="not-finite: it holds a NaN", backends={}
    )


def partition_status(name: str, *events: EventStatus, **changes) -> PartitionStatus:
    status = PartitionStatus(
        partition=name,
        path=f"{name}.h5",
        file_id=name * 16,
        events=events,
        scores_sha256="",
        rows=sum(event.hits_done for event in events),
        policy="endpoint-first",
        model_sha256="m",
        package_version="1",
        profile={"name": "protodune-sp-2021"},
        duplicate_patches="correct",
        seconds=1.0,
        detector="protodune-sp",
        backends=(),
    )
    return status.model_copy(update=changes)


def plan_of(*statuses: PartitionStatus, **changes) -> Plan:
    partitions = tuple(
        PlannedPartition(
            id=status.partition,
            path=status.path,
            hits=sum(event.hits_planned for event in status.events),
            mem_mb=500,
        )
        for status in statuses
    )
    return Plan(catalog=(), partitions=partitions, refused=(), refused_files=()).model_copy(update=changes)


hits = st.integers(0, 50)
outcomes = st.one_of(
    st.builds(lambda triton, ort: (triton, ort, None), hits, hits), st.builds(lambda n: (0, 0, n), hits)
)


@st.composite
def campaigns(draw) -> tuple[Plan, list[PartitionStatus]]:
    """Partitions with done and quarantined events, and refused events and files."""
    statuses, number = [], 0
    for name in "abcd"[: draw(st.integers(0, 4))]:
        events = []
        for triton, onnxruntime, lost in draw(st.lists(outcomes, min_size=1, max_size=5)):
            number += 1
            done = event_status(number, triton, onnxruntime)
            events.append(done if lost is None else quarantined(number, lost))
        statuses.append(partition_status(name, *events))
    refused = tuple(
        RefusedEvent(
            path="a.h5",
            file_id="a" * 16,
            entry=100 + n,
            run=1,
            subrun=0,
            event=n,
            hits=3,
            reason="too-large: it is",
        )
        for n in range(draw(st.integers(0, 3)))
    )
    return plan_of(*statuses, refused=refused), statuses


@given(campaigns())
def test_statuses_that_account_for_everything_pass(campaign):
    plan, statuses = campaign
    check_statuses(plan, statuses)


@given(campaigns(), st.integers(0, 3))
def test_accounting_has_one_row_per_planned_event_and_unreadable_file(make_file, campaign, n_files):
    plan, statuses = campaign
    files = tuple(make_file(f"bad{n}", reason="corrupt: it is", sha256="") for n in range(n_files))
    table = accounting_table(plan.model_copy(update={"refused_files": files}), statuses)
    assert table.schema.equals(ACCOUNTING_SCHEMA)
    places = [(row["file"], row["entry"]) for row in table.to_pylist()]
    expected = [(status.path, event.entry) for status in statuses for event in status.events]
    expected += [(event.path, event.entry) for event in plan.refused]
    expected += [(file.path, None) for file in files]
    assert sorted(places, key=str) == sorted(expected, key=str)
    assert len(set(places)) == len(places)


@given(campaigns())
def test_totals_are_the_sums_of_the_accounting(campaign):
    plan, statuses = campaign
    summary = totals(accounting_table(plan, statuses))
    events = [event for status in statuses for event in status.events]
    done = [event for event in events if event.state == "done"]
    n_planned = len(events) + len(plan.refused)
    assert summary["events_planned"] == n_planned == summary["events_done"] + summary["events_quarantined"]
    assert summary["events_done"] == len(done)
    assert summary["hits_by_backend"] == {
        name: sum(event.backends[name] for event in done) for name in ("triton", "onnxruntime")
    }
    assert summary["hits_done"] == sum(event.hits_planned for event in done)
    assert summary["quarantined_fraction"] * max(n_planned, 1) == pytest.approx(n_planned - len(done))


def test_totals_of_nothing_are_zero():
    assert totals(accounting_table(plan_of(), [])) == {
        "events_planned": 0,
        "events_done": 0,
        "events_quarantined": 0,
        "hits_done": 0,
        "hits_by_backend": {"triton": 0, "onnxruntime": 0},
        "quarantined_fraction": 0.0,
    }


def test_rows_say_what_became_of_each_event(make_file):
    status = partition_status("b", event_status(1, 3, 4), quarantined(2, 9))
    refused = RefusedEvent(
        path="a.h5", file_id="f", entry=0, run=1, subrun=2, event=3, hits=5, reason="too-large: it is"
    )
    plan = plan_of(
        status, refused=(refused,), refused_files=(make_file("c.h5", reason="corrupt: it is", sha256=""),)
    )
    columns = [name for name in ACCOUNTING_SCHEMA.names if name != "file_id"]
    rows = [tuple(row[name] for name in columns) for row in accounting_table(plan, [status]).to_pylist()]
    assert rows == [
        ("a.h5", 0, 1, 2, 3, 5, 0, "quarantined", "too-large: it is", None, 0, 0, None, None, 0, None),
        ("b.h5", 1, 1, 0, 1, 7, 7, "done", None, "b", 3, 4, None, None, 0, None),
        (
            "b.h5",
            2,
            1,
            0,
            2,
            9,
            0,
            "quarantined",
            "not-finite: it holds a NaN",
            "b",
            0,
            0,
            None,
            None,
            0,
            None,
        ),
        (
            "c.h5",
            None,
            None,
            None,
            None,
            0,
            0,
            "quarantined",
            "corrupt: it is",
            None,
            0,
            0,
            None,
            None,
            0,
            None,
        ),
    ]


def test_rows_say_how_the_partition_of_the_event_was_scored():
    backends = (
        BackendUse(
            backend="triton",
            endpoint="grpc://a:1",
            model_versions=("1", "2"),
            hits=3,
            retries={"timeout": 2, "overload": 5},
        ),
        BackendUse(
            backend="triton", endpoint="grpc://b:1", model_versions=("2",), hits=1, retries={"tls": 1}
        ),
        BackendUse(backend="triton", endpoint="grpc://idle:1", model_versions=("7",)),
        BackendUse(backend="onnxruntime", hits=4),
    )
    status = partition_status(
        "b", event_status(1, 4, 0), event_status(2, 0, 4), backends=backends, fallbacks=("a is away", "b too")
    )
    rows = accounting_table(plan_of(status), [status]).to_pylist()
    names = ("endpoints", "model_versions", "retries", "fallback")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("grpc://a:1, grpc://b:1", "1, 2", 8, "a is away; b too")
    ] * 2


def test_file_that_was_renamed_is_named_as_it_is_planned():
    status = partition_status("b", event_status(1, 3), path="old-name.h5")
    renamed = PlannedPartition(id="b", path="new-name.h5", hits=3, mem_mb=500)
    table = accounting_table(plan_of(status, partitions=(renamed,)), [status])
    assert table["file"].to_pylist() == ["new-name.h5"]


GOOD = (
    partition_status("a", event_status(1, 3, 4), quarantined(2, 5)),
    partition_status("b", event_status(3, 6)),
)


def with_event(index: int, **changes) -> Callable[[], list[PartitionStatus]]:
    def change() -> list[PartitionStatus]:
        events = list(GOOD[0].events)
        events[index] = events[index].model_copy(update=changes)
        return [GOOD[0].model_copy(update={"events": tuple(events)}), GOOD[1]]

    return change


def with_status(**changes) -> Callable[[], list[PartitionStatus]]:
    return lambda: [GOOD[0], GOOD[1].model_copy(update=changes)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: [GOOD[0]], r"not those of the planned partitions \(expected 2, found 1\)"),
        (lambda: [*GOOD, GOOD[0]], r"not those of the planned partitions \(expected 2, found 3\)"),
        (with_status(partition="c"), "not those of the planned partitions"),
        (with_event(0, hits_planned=6), r"partition a: hits were lost \(expected 12, found 11\)"),
        (with_status(events=()), r"partition b: hits were lost \(expected 6, found 0\)"),
        (with_event(0, hits_done=6), "partition a: run 1 subrun 0 event 1 is done but its hits are not"),
        (with_event(0, backends={"triton": 3}), "event 1 is done but its hits are not"),
        (
            with_event(0, backends={"triton": 3, "tpu": 4}),
            "event 1 was scored by a backend that is not known",
        ),
        (with_event(1, hits_done=1), "event 2 is quarantined but its hits are not"),
        (with_event(1, backends={"triton": 1}), "event 2 is quarantined but its hits are not"),
        (with_event(1, reason=None), "event 2 is quarantined without a reason"),
        (with_event(1, state="done"), "event 2 is done but its hits are not"),
        (with_event(1, event=1), "partition a: run 1 subrun 0 event 1 is given twice"),
        (with_event(1, event=3), "partition b: run 1 subrun 0 event 3 is given twice"),
        (with_status(model_sha256="other"), r"partition b: partitions differ in model_sha256 \(expected m"),
        (with_status(package_version="2"), "partitions differ in package_version"),
        (with_status(profile={"name": "other"}), "partitions differ in profile"),
        (with_status(duplicate_patches="larsoft"), "partitions differ in duplicate_patches"),
    ],
)
def test_every_inconsistency_is_refused_by_name(change, message):
    check_statuses(plan_of(*GOOD), GOOD)
    with pytest.raises(VerificationError, match=message):
        check_statuses(plan_of(*GOOD), change())


def test_accounting_does_not_depend_on_the_order_of_the_statuses():
    tables = [accounting_table(plan_of(*order), order) for order in (GOOD, GOOD[::-1])]
    assert tables[0].equals(tables[1])
    assert isinstance(tables[0], pa.Table)
