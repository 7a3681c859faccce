"""What the status file keeps of an endpoint."""

from __future__ import annotations

import numpy as np
import pytest

from protosonic.campaign.records import BackendUse, Fault
from protosonic.inference.failure_policy import EndpointError, FailureClass
from protosonic.inference.statistics import MOST_FAULTS, EndpointStatistics
from protosonic.inference.triton_client import Answer, ServerTimes
from protosonic.stages.backend_use import endpoint_use

URL = "grpc://triton:8001"


def answer(seconds: float, version: str = "1") -> Answer:
    return Answer(np.zeros((5, 4), np.float32), version, 160, seconds)


def test_an_endpoint_that_was_never_there_is_kept_for_its_faults() -> None:
    statistics = EndpointStatistics(URL)
    statistics.failed(EndpointError("no", FailureClass.UNAVAILABLE, file=URL, status="UNAVAILABLE"), 1.5)
    assert endpoint_use(statistics) == BackendUse(
        backend="triton",
        endpoint=URL,
        failures={"unavailable": 1},
        faults=(Fault(seconds=1.5, failure="unavailable", reason=f"{URL}: no"),),
    )


def test_requests_bytes_latencies_versions_and_retries_are_kept() -> None:
    statistics = EndpointStatistics(URL)
    for number in range(1, 101):
        statistics.sent(1000, in_flight=min(number, 8))
        statistics.answered(answer(number / 100, "1" if number < 50 else "2"), 3)
    statistics.retries["timeout"] += 2
    statistics.retries["overload"] += 1
    statistics.discarded, statistics.departures, statistics.deviation = 4, 2, 1e-7
    use = endpoint_use(statistics)
    assert (use.requests, use.answers, use.hits, use.bytes_sent, use.bytes_received) == (
        100,
        100,
        300,
        100_000,
        16_000,
    )
    assert use.latency_s == pytest.approx({"p50": 0.505, "p95": 0.9505, "p99": 0.9901, "max": 1.0})
    assert use.model_versions == ("1", "2")
    assert list(use.retries.items()) == [("overload", 1), ("timeout", 2)]
    assert (use.most_in_flight, use.discarded, use.departures, use.deviation) == (8, 4, 2, 1e-7)


def test_the_times_of_the_server_are_means_per_request_in_milliseconds() -> None:
    statistics = EndpointStatistics(URL)
    statistics.add_server_times(ServerTimes(10, 1.0, 2.0), ServerTimes(30, 1.5, 4.0))
    use = endpoint_use(statistics)
    assert (use.server_requests, use.server_queue_ms, use.server_compute_ms) == (20, 25.0, 100.0)


def test_all_failed_calls_are_counted_and_the_first_hundred_kept_with_a_short_reason() -> None:
    statistics = EndpointStatistics(URL)
    for number in range(MOST_FAULTS + 50):
        statistics.failed(EndpointError("x" * 2000, FailureClass.OVERLOAD, file=URL), number)
    use = endpoint_use(statistics)
    assert use.failures == {"overload": MOST_FAULTS + 50}
    assert len(use.faults) == MOST_FAULTS
    assert max(len(fault.reason) for fault in use.faults) == 500


def test_a_status_with_a_used_endpoint_survives_the_way_through_json() -> None:
    statistics = EndpointStatistics(URL)
    statistics.sent(1000, 1)
    statistics.answered(answer(0.1), 3)
    statistics.failed(EndpointError("no", FailureClass.TLS, file=URL), 1.5)
    use = endpoint_use(statistics)
    assert BackendUse.model_validate_json(use.model_dump_json()) == use
