"""What the status file keeps of what a job has seen of an endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from protosonic.campaign.records import BackendUse, Fault
from protosonic.inference.endpoint_lane import EndpointLane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from protosonic.inference.statistics import EndpointStatistics

__all__ = ["endpoint_use"]

MOST_REASON = 500
"""Characters of a reason that are kept: servers may answer with whole pages."""


def endpoint_use(statistics: EndpointStatistics) -> BackendUse:
    """Sum up what a job has seen of an endpoint."""
    n_counted = statistics.server_requests
    return BackendUse(
        backend=EndpointLane.backend,
        endpoint=statistics.url,
        model_versions=tuple(dict.fromkeys(statistics.model_versions)),
        payload=statistics.payload,
        hits=statistics.patches,
        requests=statistics.requests,
        answers=statistics.answers,
        discarded=statistics.discarded,
        retries=dict(sorted(statistics.retries.items())),
        bytes_sent=statistics.bytes_sent,
        bytes_received=statistics.bytes_received,
        latency_s=_percentiles(statistics.latency_s),
        server_requests=n_counted,
        server_queue_ms=round(1e3 * statistics.server_queue_s / n_counted, 3) if n_counted else None,
        server_compute_ms=round(1e3 * statistics.server_compute_s / n_counted, 3) if n_counted else None,
        most_in_flight=statistics.most_in_flight,
        departures=statistics.departures,
        deviation=statistics.deviation,
        failures=dict(sorted(statistics.faults_by_class.items())),
        faults=tuple(
            Fault(seconds=fault.seconds, failure=fault.failure, reason=fault.reason[:MOST_REASON])
            for fault in statistics.faults
        ),
    )


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    names = {"p50": 50, "p95": 95, "p99": 99, "max": 100}
    return {name: round(float(np.percentile(values, p)), 6) for name, p in names.items()}
