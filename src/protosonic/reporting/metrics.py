"""The state of a campaign as metrics for Prometheus, in a file that node_exporter's textfile collector reads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from protosonic.errors import ResourceError
from protosonic.extras import needs_extra

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from prometheus_client import CollectorRegistry

    from protosonic.campaign.state import CampaignState

__all__ = ["campaign_metrics", "write_metrics"]

PERCENTILES = {"p50": "50", "p95": "95", "p99": "99"}


def write_metrics(state: CampaignState, output: Path) -> None:
    """Write the metrics of a campaign; the file is there as a whole or as it was.

    Raises
    ------
    ConfigError
        prometheus_client is missing.
    ResourceError
        The file cannot be written.
    """
    registry = campaign_metrics(state)
    from prometheus_client import write_to_textfile

    try:
        write_to_textfile(str(output), registry)
    except OSError as error:
        raise ResourceError(
            f"cannot write the metrics: {error.strerror}",
            file=output,
            hint="Name a file in a folder that is there and can be written",
        ) from error


def campaign_metrics(state: CampaignState) -> CollectorRegistry:
    """Give the metrics; docs/monitoring.md lists them. All are gauges: they are read off the records anew each time."""
    with needs_extra("monitoring"):
        from prometheus_client import CollectorRegistry, Gauge
    registry = CollectorRegistry()

    def add(name: str, text: str, values: Mapping[tuple[str, ...], float], *labels: str) -> None:
        gauge = Gauge(f"protosonic_{name}", text, ("campaign", *labels), registry=registry)
        for key, value in values.items():
            gauge.labels(state.campaign, *key).set(value)

    def by(values: Mapping[str, float]) -> dict[tuple[str, ...], float]:
        return {(key,): value for key, value in values.items()}

    def known(value: float | None) -> dict[tuple[str, ...], float]:
        return {} if value is None else {(): value}

    add(
        "campaign_state",
        "Where the campaign is in its life; 1 for the state it is in.",
        by({state.state: 1}),
        "state",
    )
    add("campaign_running", "Whether a run works on the campaign.", {(): float(state.running_on is not None)})
    partitions = {key: value for key, value in state.partitions.items() if key != "planned"}
    add("partitions", "Partitions by state: done, failed for good, or missing.", by(partitions), "state")
    events = {key: value for key, value in state.events.items() if key != "known"}
    add("events", "Events by state: done or quarantined.", by(events), "state")
    add("events_known", "Events that were catalogued.", known(state.events.get("known")))
    add(
        "events_quarantined",
        "Quarantined events by the code of their reason.",
        by(state.quarantined),
        "reason",
    )
    add("hits_planned", "Hits of all planned partitions.", known(state.hits.get("planned")))
    add("hits_scored", "Hits that were scored, by endpoint or onnxruntime.", by(state.backends), "backend")
    add("job_failures", "Jobs that failed, by class of error.", by(state.failures), "error")
    add(
        "request_retries", "Requests that were sent again, by class of failure.", by(state.retries), "failure"
    )
    latency: dict[tuple[str, ...], float] = {
        (endpoint, PERCENTILES[name]): seconds
        for endpoint, found in state.latency_s.items()
        for name, seconds in found.items()
        if name in PERCENTILES
    }
    text = (
        "Time from request to answer: the median over partitions, and the other percentiles of the worst one."
    )
    add("request_latency_seconds", text, latency, "endpoint", "percentile")
    add("hits_per_second", "Hits scored in a second since the run began.", known(state.hits_per_s))
    left = None if state.hours_left is None else 3600 * state.hours_left
    add("time_left_seconds", "Time that the run needs for the missing partitions at that pace.", known(left))
    add("state_read_timestamp_seconds", "When the records were read, in Unix time.", {(): time.time()})
    return registry
