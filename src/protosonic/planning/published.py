"""What is known of the measurements behind arXiv:2009.04509, beside their times.

The repository nuSONIC holds the scans and the analytic model; the round trip and the cost of a call follow from the
constants of that model.
"""

from __future__ import annotations

from typing import NamedTuple

from protosonic.planning.scenario import Scenario

__all__ = ["SCANS", "PublishedScan", "known_scenario"]

HITS_PER_EVENT = 55_000
CLIENT_GBPS = 2.0
"""507 MB of patches in the 2.05 s that the published model calls transmission."""
ROUND_TRIP_MS = 11.5
"""2.6 s for 234 requests, 0.38 s for 32."""
REQUEST_OVERHEAD_MS = 3.6
"""2.5 s of a GPU with 234 requests computed alone, 1.77 s with 32."""


class PublishedScan(NamedTuple):
    """A scan and how it was taken.

    Attributes
    ----------
    path
        Its file, below the folder with the files of others.
    gpus
        NVIDIA T4.
    hits_per_request
        Mean patches of a request.
    dynamic_batching
        Whether the server computed requests that waited together.
    """

    path: str
    gpus: int
    hits_per_request: int
    dynamic_batching: bool


def _scan(name: str, gpus: int, hits_per_request: int, *, dynamic_batching: bool) -> PublishedScan:
    return PublishedScan(
        f"nusonic-scaling/results_rscaletest-{name}.txt", gpus, hits_per_request, dynamic_batching
    )


SCANS = {
    "gke1": _scan("gke1", 1, 235, dynamic_batching=True),
    "gke4": _scan("gke4", 4, 235, dynamic_batching=True),
    "gke4_nodybat": _scan("gke4_nodybat", 4, 235, dynamic_batching=False),
    "gke4_bigbat": _scan("gke4_bigbat", 4, 1720, dynamic_batching=True),
    "gke4_nodybat_bigbat": _scan("gke4_nodybat_bigbat", 4, 1720, dynamic_batching=False),
}
"""By the names of their files."""


def known_scenario(name: str, fitted: Scenario | None = None) -> Scenario:
    """Give the scenario of a scan: what is known, and beside that the values of `fitted`, which may be another scan's."""
    scan = SCANS[name]
    base = fitted or Scenario().with_changes(
        {
            "workload.hits_per_event": HITS_PER_EVENT,
            "clients.requests": "blocking",
            "clients.payload": "patches",
            "server.request_overhead_ms": REQUEST_OVERHEAD_MS,
            "network.client_gbps": CLIENT_GBPS,
            "network.site_gbps": None,
            "network.round_trip_ms": ROUND_TRIP_MS,
        }
    )
    return base.with_changes(
        {
            "clients.hits_per_request": scan.hits_per_request,
            "server.gpus": scan.gpus,
            "server.dynamic_batching": scan.dynamic_batching,
        }
    )
