"""What endpoints did for a campaign, summed up."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from protosonic.campaign.dispatch import dispatch_summary
from protosonic.campaign.records import BackendUse, Fault, PartitionStatus


def use(endpoint: str = "grpc://a:1", **changes: Any) -> BackendUse:
    return BackendUse(backend="triton", endpoint=endpoint, **changes)


def status(partition: str, *uses: BackendUse) -> PartitionStatus:
    """What the summary looks at."""
    return PartitionStatus.model_construct(partition=partition, backends=uses)


def latency(p50: float, worst: float) -> dict[str, float]:
    return {"p50": p50, "p95": worst, "p99": worst + 1, "max": worst + 2}


def test_a_campaign_on_the_cpu_has_no_endpoints() -> None:
    summary = dispatch_summary([status("p", BackendUse(backend="onnxruntime", engine="sparse", hits=5))])
    assert summary == {"endpoints": [], "failures": [], "cpu_engines": ["sparse"]}
    assert dispatch_summary([]) == {"endpoints": [], "failures": [], "cpu_engines": []}


def test_what_the_partitions_count_is_added_up_per_endpoint() -> None:
    [a, b] = dispatch_summary(
        [
            status(
                "p1",
                use(
                    hits=10,
                    payload="patches",
                    requests=4,
                    answers=3,
                    discarded=1,
                    bytes_sent=100,
                    bytes_received=7,
                    departures=1,
                    retries={"timeout": 1},
                    most_in_flight=5,
                    model_versions=("1",),
                    deviation=1e-7,
                ),
            ),
            status(
                "p2",
                use(
                    hits=20,
                    payload="image",
                    requests=2,
                    answers=2,
                    bytes_sent=11,
                    bytes_received=1,
                    retries={"timeout": 2, "overload": 4},
                    most_in_flight=3,
                    model_versions=("2", "1"),
                ),
                use("grpc://b:1", departures=1),
            ),
        ]
    )["endpoints"]
    assert a == {
        "endpoint": "grpc://a:1",
        "model_versions": ["1", "2"],
        "payloads": ["image", "patches"],
        "partitions": 2,
        "hits": 30,
        "requests": 6,
        "answers": 5,
        "discarded": 1,
        "bytes_sent": 111,
        "bytes_received": 8,
        "departures": 1,
        "retries": {"overload": 4, "timeout": 3},
        "latency_s": {},
        "server_queue_ms": None,
        "server_compute_ms": None,
        "most_in_flight": 5,
        "deviation": 1e-7,
    }
    assert (b["endpoint"], b["partitions"], b["hits"], b["departures"]) == ("grpc://b:1", 0, 0, 1)
    assert (b["deviation"], b["model_versions"]) == (None, [])


def test_the_median_latency_is_weighted_by_answers_and_the_others_are_the_worst() -> None:
    summary = dispatch_summary(
        [
            status("p1", use(answers=1, latency_s=latency(0.1, 9))),
            status("p2", use(answers=10, latency_s=latency(0.5, 2))),
            status("p3", use(answers=2, latency_s=latency(0.9, 3))),
            status("p4", use()),
        ]
    )
    assert summary["endpoints"][0]["latency_s"] == {"p50": 0.5, "p95": 9, "p99": 10, "max": 11}


def test_the_times_of_the_server_are_weighted_by_its_requests() -> None:
    summary = dispatch_summary(
        [
            status("p1", use(server_requests=1, server_queue_ms=1.0, server_compute_ms=10.0)),
            status("p2", use(server_requests=3, server_queue_ms=5.0, server_compute_ms=20.0)),
            status("p3", use()),
        ]
    )
    [total] = summary["endpoints"]
    assert (total["server_queue_ms"], total["server_compute_ms"]) == (4.0, 17.5)


def test_failed_calls_are_listed_by_endpoint_and_class_with_the_first_reason() -> None:
    faults = tuple(Fault(seconds=n, failure="timeout", reason=f"late {n}") for n in range(2))
    summary = dispatch_summary(
        [
            status("p2", use(failures={"timeout": 1, "tls": 1})),
            status("p1", use(failures={"timeout": 2}, faults=faults), use("grpc://b:1", failures={"tls": 9})),
        ]
    )
    assert summary["failures"] == [
        {"endpoint": "grpc://b:1", "failure": "tls", "calls": 9, "partitions": 1, "reason": None},
        {"endpoint": "grpc://a:1", "failure": "timeout", "calls": 3, "partitions": 2, "reason": "late 0"},
        {"endpoint": "grpc://a:1", "failure": "tls", "calls": 1, "partitions": 1, "reason": None},
    ]


uses = st.builds(
    use,
    st.sampled_from(["grpc://a:1", "grpc://b:1"]),
    hits=st.integers(0, 9),
    answers=st.integers(1, 9),
    latency_s=st.one_of(st.just({}), st.builds(latency, st.floats(0, 1), st.floats(1, 2))),
    failures=st.dictionaries(st.sampled_from(["tls", "timeout"]), st.integers(1, 5)),
)


@given(st.lists(st.lists(uses, max_size=3), max_size=5), st.randoms())
def test_the_order_of_the_statuses_does_not_matter_and_nothing_is_lost(lists: Any, random: Any) -> None:
    statuses = [status(str(n), *used) for n, used in enumerate(lists)]
    summary = dispatch_summary(statuses)
    random.shuffle(statuses)
    assert dispatch_summary(statuses) == summary
    every = [used for status in statuses for used in status.backends]
    assert sum(total["hits"] for total in summary["endpoints"]) == sum(used.hits for used in every)
    assert sum(row["calls"] for row in summary["failures"]) == sum(
        sum(used.failures.values()) for used in every
    )
