"""The rates that a finished campaign leaves for the planner."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from protosonic.campaign.dispatch import dispatch_summary
from protosonic.campaign.layout import Layout
from protosonic.campaign.records import BackendUse, PartitionStatus, write_record
from protosonic.errors import ProtosonicError
from protosonic.planning.measured import measured_values
from protosonic.planning.scenario import Scenario

if TYPE_CHECKING:
    from pathlib import Path

ON_CPU = BackendUse(backend="onnxruntime", hits=6000)


def at_endpoint(url: str, **changes: Any) -> BackendUse:
    use = BackendUse(
        backend="triton",
        endpoint=url,
        payload="image",
        hits=8000,
        requests=5,
        answers=4,
        bytes_sent=400_000,
        server_requests=4,
        server_compute_ms=50.0,
    )
    return use.model_copy(update=changes)


def campaign(folder: Path, *partitions: tuple[float, tuple[BackendUse, ...]]) -> Layout:
    """Write the records of a campaign whose partitions took so many seconds and used such backends."""
    layout = Layout("measured", folder)
    statuses = [
        PartitionStatus(
            partition=f"p{number}",
            path="a.h5",
            file_id="a",
            events=(),
            scores_sha256="",
            rows=0,
            policy="endpoint-first",
            model_sha256="m",
            package_version="1",
            profile={},
            duplicate_patches="correct",
            seconds=seconds,
            detector="protodune-sp",
            backends=backends,
        )
        for number, (seconds, backends) in enumerate(partitions)
    ]
    for status in statuses:
        write_record(layout.status(status.partition), status)
    hits = sum(use.hits for status in statuses for use in status.backends)
    content = {
        "totals": {"events_planned": 5, "events_done": 4, "hits_done": hits},
        "dispatch": dispatch_summary(statuses),
    }
    layout.campaign.parent.mkdir(parents=True)
    layout.campaign.write_text(json.dumps(content), encoding="utf-8")
    return layout


def test_requests_and_the_rate_of_the_server_come_from_what_the_endpoints_did(tmp_path: Path) -> None:
    layout = campaign(
        tmp_path,
        (2.0, (at_endpoint("grpc://a:1"),)),
        (2.0, (at_endpoint("grpc://a:1"), at_endpoint("grpc://b:1", hits=4000, server_compute_ms=None))),
    )
    values = measured_values(layout)
    assert values["workload.events"] == 5
    assert values["workload.hits_per_event"] == 20_000 / 4
    assert values["clients.payload"] == "image"
    assert values["clients.hits_per_request"] == round(20_000 / 12)
    assert values["clients.bytes_per_hit"] == 1_200_000 / 20_000
    # Of the endpoint that said how long it computed: 16,000 hits in 8 answers of 50 ms.
    assert values["server.hits_per_s"] == pytest.approx(40_000)
    assert Scenario().with_changes(values).server.hits_per_s == pytest.approx(40_000)


def test_the_cpu_rate_is_that_of_partitions_that_only_the_cpu_scored(tmp_path: Path) -> None:
    layout = campaign(tmp_path, (3.0, (ON_CPU,)), (1.0, (ON_CPU, at_endpoint("grpc://a:1"))))
    assert measured_values(layout)["workload.cpu_hits_per_s"] == 2000


def test_several_payloads_give_none(tmp_path: Path) -> None:
    layout = campaign(
        tmp_path, (1.0, (at_endpoint("grpc://a:1"), at_endpoint("grpc://b:1", payload="patches")))
    )
    assert "clients.payload" not in measured_values(layout)


def test_a_damaged_status_is_named(tmp_path: Path) -> None:
    layout = campaign(tmp_path, (1.0, (ON_CPU,)))
    layout.status("p0").write_text("{", encoding="utf-8")
    with pytest.raises(ProtosonicError, match="p0"):
        measured_values(layout)
