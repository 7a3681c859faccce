"""What endpoints did for a whole campaign, summed up over its partitions."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from protosonic.campaign.records import BackendUse, PartitionStatus

__all__ = ["dispatch_summary", "latency_of_partitions"]


def dispatch_summary(statuses: Iterable[PartitionStatus]) -> dict[str, Any]:
    """Sum up requests and failures.

    Returns
    -------
    ``endpoints``: what each one did; the median latency is that of the partitions, weighted by their answers, and the
    other percentiles are those of the worst partition. ``failures``: the failed calls by endpoint and class, with the
    first reason of each; those of most calls come first. Both are in the same order whatever the order of statuses.
    ``cpu_engines``: what computed on the CPU.
    """
    statuses = sorted(statuses, key=lambda status: status.partition)
    engines = {use.engine for status in statuses for use in status.backends if use.engine is not None}
    uses: dict[str, list[BackendUse]] = defaultdict(list)
    for status in statuses:
        for use in status.backends:
            if use.endpoint is not None:
                uses[use.endpoint].append(use)
    failures = [failure for endpoint in sorted(uses) for failure in _failures(endpoint, uses[endpoint])]
    return {
        "endpoints": [_endpoint_total(endpoint, uses[endpoint]) for endpoint in sorted(uses)],
        "failures": sorted(failures, key=lambda failure: -failure["calls"]),
        "cpu_engines": sorted(engines),
    }


def _endpoint_total(endpoint: str, uses: Sequence[BackendUse]) -> dict[str, Any]:
    retries: Counter[str] = Counter()
    for use in uses:
        retries.update(use.retries)
    deviations = [use.deviation for use in uses if use.deviation is not None]
    sums = ("hits", "requests", "answers", "discarded", "bytes_sent", "bytes_received", "departures")
    return {
        "endpoint": endpoint,
        "model_versions": sorted({version for use in uses for version in use.model_versions}),
        "payloads": sorted({use.payload for use in uses if use.payload is not None}),
        "partitions": sum(use.hits > 0 for use in uses),
        **{name: sum(getattr(use, name) for use in uses) for name in sums},
        "retries": dict(sorted(retries.items())),
        "latency_s": latency_of_partitions((use.answers, use.latency_s) for use in uses),
        "server_queue_ms": _server_mean(uses, "server_queue_ms"),
        "server_compute_ms": _server_mean(uses, "server_compute_ms"),
        "most_in_flight": max(use.most_in_flight for use in uses),
        "deviation": max(deviations, default=None),
    }


def latency_of_partitions(seen: Iterable[tuple[int, Mapping[str, float]]]) -> dict[str, float]:
    """Sum up latencies of partitions, each with its number of answers.

    Returns
    -------
    ``p50`` in seconds is the median of the partitions, weighted by their answers; ``p95``, ``p99`` and ``max`` are those of
    the worst partition. Nothing where none has a latency.
    """
    answered = sorted(
        ((latency, answers) for answers, latency in seen if latency), key=lambda pair: pair[0]["p50"]
    )
    if not answered:
        return {}
    passed = list(accumulate(answers for _, answers in answered))
    middle = bisect_left(passed, passed[-1] / 2)
    worst = {name: max(latency[name] for latency, _ in answered) for name in ("p95", "p99", "max")}
    return {"p50": answered[middle][0]["p50"]} | worst


def _server_mean(uses: Sequence[BackendUse], name: str) -> float | None:
    """Average over partitions, weighted by the requests that the server counted."""
    known = [(getattr(use, name), use.server_requests) for use in uses if getattr(use, name) is not None]
    n_requests = sum(n for _, n in known)
    return round(sum(mean * n for mean, n in known) / n_requests, 3) if n_requests else None


def _failures(endpoint: str, uses: Sequence[BackendUse]) -> Iterator[dict[str, Any]]:
    calls: Counter[str] = Counter()
    partitions: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    for use in uses:
        calls.update(use.failures)
        partitions.update(use.failures.keys())
        for fault in use.faults:
            reasons.setdefault(fault.failure, fault.reason)
    for failure in sorted(calls):
        yield {
            "endpoint": endpoint,
            "failure": failure,
            "calls": calls[failure],
            "partitions": partitions[failure],
            "reason": reasons.get(failure),
        }
