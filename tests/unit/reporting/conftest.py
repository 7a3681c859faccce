from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from protosonic.campaign.layout import Layout
from protosonic.campaign.records import (
    BackendUse,
    CatalogBlock,
    EventRecord,
    EventStatus,
    Fault,
    FileRecord,
    InputSpec,
    ModelRecord,
    PartitionStatus,
    Plan,
    PlannedPartition,
    write_record,
)
from protosonic.config import check_settings
from protosonic.dataset.scores import ScoresWriter, hits_table
from protosonic.publish import sha256_of
from protosonic.stages.merge import merge_campaign

HOSTILE = "<script>alert('&1')</script> [bold]\"x\"[/bold] [/] {{ 7 * 7 }}"
"""Would be run by a browser, formatted by rich or computed by a template that does not take care."""
FILE_ID = "f" * 16
USE = BackendUse(
    backend="triton",
    endpoint="grpc://triton:8001",
    model_versions=("3",),
    payload="image",
    hits=15,
    requests=1234,
    answers=1200,
    retries={"overload": 30, "timeout": 4},
    bytes_sent=5_678_900_000,
    bytes_received=1_230_000,
    latency_s={"p50": 0.0421, "p95": 0.2, "p99": 0.5678, "max": 1.0},
    server_requests=5000,
    server_queue_ms=12.3,
    server_compute_ms=4.56,
    most_in_flight=7,
    departures=2,
    failures={"overload": 30, "timeout": 4, "unavailable": 1},
    faults=(
        Fault(seconds=1.5, failure="overload", reason=f"Exceeds maximum queue size {HOSTILE}"),
        Fault(seconds=2.5, failure="timeout", reason="Deadline Exceeded"),
    ),
)
OTHER_USE = BackendUse(
    backend="triton",
    endpoint="grpc://never-there:8001",
    departures=1,
    failures={"unavailable": 40},
    faults=(Fault(seconds=0.1, failure="unavailable", reason="connection refused"),),
)
CampaignFactory = Callable[..., Layout]


def event_hits(n: int) -> dict[str, np.ndarray]:
    """Hits on all three planes of TPC 1, and some on the W plane of TPC 5; every fourth in channel space."""
    rng = np.random.default_rng(n)
    plane = np.arange(n) % 3
    return {
        "hit": np.arange(n),
        "cryostat": np.zeros(n),
        "tpc": np.where((plane == 2) & (np.arange(n) < 6), 5, 1),
        "plane": plane,
        "wire": rng.integers(0, 480, n),
        "channel": rng.integers(0, 2560, n),
        "in_wire_space": plane == 2,
        "in_fiducial": np.ones(n, bool),
        "duplicate_patch": np.zeros(n, bool),
    } | {name: rng.random(n) * 100 for name in ("peak_time", "rms", "peak_amplitude", "integral")}


@pytest.fixture
def make_campaign(tmp_path: Path) -> CampaignFactory:
    """Merge a campaign of one file with two events, the second quarantined, and files that cannot be read.

    Parameters: the number of hits of the first event, how many files cannot be read, whether the model is untrained,
    how many reasons for a fallback there are besides the first, and what the endpoints did.
    """

    def make(
        hits: int = 60,
        *,
        unreadable: int = 1,
        untrained: bool = True,
        more_fallbacks: int = 0,
        endpoints: tuple[BackendUse, ...] = (USE, OTHER_USE),
    ) -> Layout:
        settings = check_settings({"campaign": {"name": "shown"}, "inputs": [{"path": f"data/{HOSTILE}"}]})
        layout = Layout("shown", tmp_path)
        events = tuple(
            EventRecord(entry=n, run=1, subrun=0, event=n + 1, hits_by_plane=(count, 0, 0))
            for n, count in enumerate((hits, 5))
        )
        common = {"path": f"data/{HOSTILE}.h5", "detector": "protodune-sp"}
        file = FileRecord(
            **common, sha256="f" * 64, spec=InputSpec(), format="native", events=events, warnings=(HOSTILE,)
        )
        refused = tuple(
            FileRecord(path=f"data/z{n}{HOSTILE}.h5", spec=InputSpec(), reason=f"corrupt: {HOSTILE}")
            for n in range(unreadable)
        )
        write_record(layout.catalog / "00.json", CatalogBlock(package_version="1", files=(file, *refused)))
        planned = PlannedPartition(id="p", path=file.path, hits=hits + 5, mem_mb=500)
        write_record(
            layout.plan, Plan(catalog=("00.json",), partitions=(planned,), refused=(), refused_files=refused)
        )
        write_record(layout.model, ModelRecord(path=HOSTILE, sha256="m" * 64, untrained=untrained))
        backend = np.where(np.arange(hits) < hits // 4, "triton", "onnxruntime").astype(object)
        with ScoresWriter(layout.scores("p"), {}) as writer:
            scores = np.random.default_rng(0).random((hits, 4)).astype(np.float32)
            names = ("track", "em", "none", "michel")
            writer.write(hits_table((1, 0, 1), event_hits(hits), scores, names, backend, FILE_ID))
        numbers = {"run": 1, "subrun": 0}
        status = PartitionStatus(
            **common,
            partition="p",
            file_id=FILE_ID,
            events=(
                EventStatus(
                    **numbers,
                    entry=0,
                    event=1,
                    hits_planned=hits,
                    hits_done=hits,
                    state="done",
                    backends={"triton": hits // 4, "onnxruntime": hits - hits // 4},
                ),
                EventStatus(
                    **numbers,
                    entry=1,
                    event=2,
                    hits_planned=5,
                    hits_done=0,
                    state="quarantined",
                    reason=f"not-finite: {HOSTILE}",
                ),
            ),
            scores_sha256=sha256_of(layout.scores("p")),
            rows=hits,
            policy="endpoint-first",
            model_sha256="m" * 64,
            package_version="1",
            profile={"name": "protodune-sp-2021"},
            duplicate_patches="correct",
            seconds=0.5,
            backends=(*endpoints, BackendUse(backend="onnxruntime", hits=hits - hits // 4)),
            fallbacks=(f"the endpoint is down: {HOSTILE}", *(f"reason {n}" for n in range(more_fallbacks))),
        )
        write_record(layout.status("p"), status)
        merge_campaign(layout, settings)
        return layout

    return make


@pytest.fixture(scope="session")
def hostile() -> str:
    """The text that stands in every name and reason of the campaign."""
    return HOSTILE


@pytest.fixture(scope="session")
def make_hits() -> Callable[[int], dict[str, np.ndarray]]:
    """Make the columns of the hits of an event."""
    return event_hits
