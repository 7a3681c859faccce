"""Metrics of a campaign, as Prometheus' own parser reads them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from protosonic.campaign.state import CampaignState
from protosonic.errors import ResourceError
from protosonic.reporting.metrics import write_metrics

PAGE = (Path(__file__).parents[3] / "docs/monitoring.md").read_text(encoding="utf-8")
STATE = CampaignState(
    campaign="demo",
    state="running",
    running_on="node",
    partitions={"planned": 10, "done": 6, "failed": 1, "missing": 3},
    events={"known": 20, "done": 12, "quarantined": 2},
    hits={"planned": 1000, "done": 600},
    quarantined={"corrupt": 2},
    failures={"ModelError": 1},
    partitions_per_hour=60.0,
    hits_per_s=10.0,
    hours_left=0.05,
    backends={'grpc://a"b:1': 500, "onnxruntime": 100},
    retries={"overload": 7},
    latency_s={"grpc://a:1": {"p50": 0.1, "p95": 0.2, "p99": 0.3, "max": 9.0}},
)


def samples(path: Path) -> dict[tuple[str, ...], float]:
    found = {}
    for family in text_string_to_metric_families(path.read_text(encoding="utf-8")):
        for sample in family.samples:
            labels = {key: value for key, value in sample.labels.items() if key != "campaign"}
            assert sample.labels["campaign"] == "demo"
            found[sample.name.removeprefix("protosonic_"), *labels.values()] = sample.value
    return found


def test_state_is_what_the_file_says(tmp_path: Path) -> None:
    write_metrics(STATE, tmp_path / "demo.prom")
    found = samples(tmp_path / "demo.prom")
    assert found.pop(("state_read_timestamp_seconds",)) > 1.7e9
    assert found == {
        ("campaign_state", "running"): 1,
        ("campaign_running",): 1,
        ("partitions", "done"): 6,
        ("partitions", "failed"): 1,
        ("partitions", "missing"): 3,
        ("events", "done"): 12,
        ("events", "quarantined"): 2,
        ("events_known",): 20,
        ("events_quarantined", "corrupt"): 2,
        ("hits_planned",): 1000,
        ("hits_scored", 'grpc://a"b:1'): 500,
        ("hits_scored", "onnxruntime"): 100,
        ("job_failures", "ModelError"): 1,
        ("request_retries", "overload"): 7,
        ("request_latency_seconds", "grpc://a:1", "50"): 0.1,
        ("request_latency_seconds", "grpc://a:1", "95"): 0.2,
        ("request_latency_seconds", "grpc://a:1", "99"): 0.3,
        ("hits_per_second",): 10,
        ("time_left_seconds",): 180,
    }


def test_draft_has_few_metrics_and_nothing_stays_beside_the_file(tmp_path: Path) -> None:
    write_metrics(CampaignState("demo", "draft"), tmp_path / "demo.prom")
    assert {name for name, *_ in samples(tmp_path / "demo.prom")} == {
        "campaign_state",
        "campaign_running",
        "state_read_timestamp_seconds",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["demo.prom"]


def test_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="cannot write the metrics") as caught:
        write_metrics(STATE, tmp_path / "gone" / "demo.prom")
    assert str(tmp_path / "gone") in str(caught.value)


def test_page_lists_every_metric_and_no_other(tmp_path: Path) -> None:
    write_metrics(STATE, tmp_path / "demo.prom")
    named = set(re.findall(r"^# TYPE (\w+) gauge$", (tmp_path / "demo.prom").read_text(), re.MULTILINE))
    assert set(re.findall(r"^\| `(protosonic_\w+)", PAGE, re.MULTILINE)) == named
