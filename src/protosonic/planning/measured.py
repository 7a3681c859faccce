"""Rates of a finished campaign, as values of a scenario."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from protosonic.campaign.provenance import read_campaign
from protosonic.campaign.records import PartitionStatus, read_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from protosonic.campaign.layout import Layout

__all__ = ["measured_values"]


def measured_values(layout: Layout) -> dict[str, Any]:
    """Read what a campaign measured: events, hits of an event, bytes of a hit, CPU rate, preparation.

    Only what its records hold is given. The hits/s of a GPU follow from the seconds that the server computed for each
    request; where several instances or clients share the GPU they are too low. The CPU rate is that of a job, with as many
    threads as it had.

    Raises
    ------
    ProtosonicError
        It is not finished, or its record is damaged.
    """
    campaign = read_campaign(layout)
    totals = campaign["totals"]
    n_events, n_hits = totals["events_done"], totals["hits_done"]
    values: dict[str, Any] = {"workload.events": max(totals["events_planned"], 1)}
    if not n_hits:
        return values
    values["workload.hits_per_event"] = n_hits / n_events
    prepare_s = sum(_seconds(layout, "preprocess"))
    if prepare_s:
        values["workload.prepare_s"] = prepare_s / n_events
    on_cpu = seconds = 0.0
    for path in layout.status("x").parent.glob("*.json"):
        status = read_record(path, PartitionStatus)
        if {use.backend for use in status.backends} == {"onnxruntime"}:
            on_cpu += sum(use.hits for use in status.backends)
            seconds += status.seconds
    if on_cpu:
        values["workload.cpu_hits_per_s"] = on_cpu / seconds
    return values | _of_endpoints(campaign["dispatch"]["endpoints"])


def _of_endpoints(endpoints: list[dict[str, Any]]) -> dict[str, Any]:
    used = [endpoint for endpoint in endpoints if endpoint["answers"]]
    if not used:
        return {}
    hits = sum(endpoint["hits"] for endpoint in used)
    answers = sum(endpoint["answers"] for endpoint in used)
    payloads = {payload for endpoint in used for payload in endpoint["payloads"]}
    values: dict[str, Any] = {
        "clients.hits_per_request": max(round(hits / answers), 1),
        "clients.bytes_per_hit": sum(endpoint["bytes_sent"] for endpoint in used) / hits,
    }
    if len(payloads) == 1:
        values["clients.payload"] = payloads.pop()
    computed = [endpoint for endpoint in used if endpoint["server_compute_ms"]]
    if computed:
        seconds = sum(endpoint["server_compute_ms"] * endpoint["answers"] / 1e3 for endpoint in computed)
        values["server.hits_per_s"] = sum(endpoint["hits"] for endpoint in computed) / seconds
    return values


def _seconds(layout: Layout, stage: str) -> Iterator[float]:
    for path in layout.benchmark(stage, "x").parent.glob("*.jsonl"):
        lines = path.read_text(encoding="utf-8").splitlines()
        if lines:  # several are several attempts; the last one counts
            yield float(json.loads(lines[-1])["s"])
