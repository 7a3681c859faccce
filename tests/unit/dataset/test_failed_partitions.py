"""Failures that no retry mends: recorded by the stages, refused by the merge unless the campaign is closed."""

from __future__ import annotations

import errno
import shutil

import pyarrow.parquet as pq
import pytest

from protosonic.campaign.permanent import permanent_failure, reason_of
from protosonic.campaign.records import PartitionStatus, read_record
from protosonic.errors import (
    ConfigError,
    DataError,
    IncompleteError,
    ModelError,
    ResourceError,
    ServiceError,
    TransientError,
    VerificationError,
)
from protosonic.stages import preprocess
from protosonic.stages.verify import verify_campaign


@pytest.mark.parametrize(
    "error",
    [
        TransientError("x"),
        ServiceError("x"),
        ResourceError("x"),
        MemoryError(),
        OSError(errno.ENOSPC, "x"),
        OSError(errno.ESTALE, "x"),
        OSError(errno.EACCES, "x"),
        OSError("Can't read data (errno = 5, error message = 'Input/output error')"),
        RuntimeError("std::bad_alloc"),
        ConfigError("x"),
    ],
    ids=repr,
)
def test_what_a_retry_or_the_operator_can_mend_is_no_failure_of_the_partition(error):
    assert permanent_failure(error, "infer") is None


@pytest.mark.parametrize(
    ("error", "code", "recoverable"),
    [
        (ModelError("x"), 4, False),
        (DataError("x", code="corrupt"), 3, False),
        (VerificationError("x"), 6, True),
        (OSError("HDF5: bad symbol table"), 1, True),
        (ZeroDivisionError("x"), 1, False),
    ],
    ids=repr,
)
def test_what_no_retry_mends_is_recorded_with_its_class(error, code, recoverable):
    failure = permanent_failure(error, "infer")
    assert failure is not None
    assert failure.error == type(error).__name__
    assert failure.exit_code == code
    assert failure.recoverable == recoverable
    assert reason_of(failure).startswith(f"job-failed: infer: {failure.error}: ")


@pytest.fixture
def broken(campaign, monkeypatch):
    """A campaign in which preparing the events of the first partition raises something unexpected."""
    plan = campaign.plan()
    first = plan.partitions[0].id
    monkeypatch.setattr(
        preprocess, "_check_unchanged", lambda partition: 1 / 0 if partition.id == first else None
    )
    shutil.rmtree(campaign.results)
    campaign.score(plan)
    return campaign, plan


def test_an_unexpected_exception_in_preprocess_is_passed_on_by_infer(broken):
    campaign, plan = broken
    statuses = [read_record(campaign.layout.status(p.id), PartitionStatus) for p in plan.partitions]
    assert [status.state for status in statuses] == ["failed", *["done"] * (len(statuses) - 1)]
    assert statuses[0].failure is not None
    assert statuses[0].failure.stage == "preprocess"
    assert statuses[0].failure.message == "internal error: ZeroDivisionError: division by zero"
    assert statuses[0].rows == 0


def test_the_merge_refuses_failed_partitions_unless_the_campaign_is_closed(broken):
    campaign, plan = broken
    with pytest.raises(IncompleteError, match=rf"1 of {len(plan.partitions)} partitions failed .* in prep"):
        campaign.merge()
    assert not campaign.layout.campaign.exists()
    campaign.layout.closed.write_text("{}")
    content = campaign.merge()
    [entry] = content["failed_partitions"]
    assert entry["partition"] == plan.partitions[0].id
    rows = pq.read_table(campaign.layout.accounting).to_pylist()
    lost = [row for row in rows if row["partition"] == entry["partition"]]
    assert len(lost) == entry["events"]
    assert {row["state"] for row in lost} == {"quarantined"}
    assert {row["reason"].partition(":")[0] for row in lost} == {"job-failed"}
    assert content["totals"]["events_done"] + content["totals"]["events_quarantined"] == len(rows)
    assert verify_campaign(campaign.layout) == []


def test_verification_compares_what_was_given_up_with_the_accounting(broken):
    campaign, _ = broken
    campaign.layout.closed.write_text("{}")
    campaign.merge()
    with campaign.edited_campaign() as content:
        content["failed_partitions"] = []
    [problem] = verify_campaign(campaign.layout)
    assert "campaign.json gave up 0 events, the accounting 1" in problem
