"""What a job notes of an endpoint."""

from __future__ import annotations

import numpy as np
import pytest

from protosonic.inference.failure_policy import EndpointError, FailureClass
from protosonic.inference.statistics import MOST_FAULTS, EndpointStatistics
from protosonic.inference.triton_client import Answer, ServerTimes

URL = "grpc://somewhere:8001"


@pytest.fixture
def statistics() -> EndpointStatistics:
    return EndpointStatistics(URL)


def answer(n: int = 5, *, version: str = "1", seconds: float = 0.5) -> Answer:
    return Answer(np.zeros((n, 4), np.float32), version, 16 * n, seconds)


def error(number: int = 0, failure: FailureClass = FailureClass.OVERLOAD) -> EndpointError:
    return EndpointError(f"failure {number}", failure, file=URL)


def test_requests_are_counted_with_their_bytes_and_the_most_at_a_time(
    statistics: EndpointStatistics,
) -> None:
    for in_flight in (1, 2, 3, 2, 1):
        statistics.sent(100, in_flight)
    assert (statistics.requests, statistics.bytes_sent, statistics.most_in_flight) == (5, 500, 3)
    assert statistics.answers == statistics.patches == 0


def test_answers_are_counted_with_their_hits_and_latencies_and_without_golden_patches(
    statistics: EndpointStatistics,
) -> None:
    statistics.answered(answer(7, seconds=0.25), 5)
    statistics.answered(answer(3, seconds=0.75), 1)
    assert (statistics.answers, statistics.patches, statistics.bytes_received) == (2, 6, 160)
    assert statistics.latency_s == [0.25, 0.75]


def test_a_change_of_version_is_told_once_and_every_change_is_kept(statistics: EndpointStatistics) -> None:
    changes = [statistics.served_by(version) for version in ("1", "1", "2", "2", "1")]
    assert changes == [False, False, True, False, True]
    assert statistics.model_versions == ["1", "2", "1"]
    statistics.answered(answer(version="3"), 5)
    assert statistics.model_versions == ["1", "2", "1", "3"]


def test_faults_are_counted_by_class_and_the_first_hundred_are_kept(statistics: EndpointStatistics) -> None:
    for number in range(MOST_FAULTS + 50):
        failure = FailureClass.TIMEOUT if number % 3 == 0 else FailureClass.OVERLOAD
        statistics.failed(error(number, failure), number + 0.12345)
    assert statistics.n_faults == statistics.faults_by_class.total() == 150
    assert statistics.faults_by_class == {"timeout": 50, "overload": 100}
    assert len(statistics.faults) == MOST_FAULTS == 100
    assert statistics.faults[0] == (0.123, "timeout", f"{URL}: failure 0")
    assert statistics.faults[-1].reason == f"{URL}: failure 99"


def test_what_the_server_counts_meanwhile_is_the_difference_of_two_readings(
    statistics: EndpointStatistics,
) -> None:
    statistics.add_server_times(ServerTimes(10, 1.0, 2.0), ServerTimes(14, 1.5, 4.0))
    statistics.add_server_times(ServerTimes(20, 3.0, 5.0), ServerTimes(21, 3.25, 5.5))
    assert statistics.server_requests == 5
    assert (statistics.server_queue_s, statistics.server_compute_s) == (0.75, 2.5)


def test_a_server_that_was_started_anew_counts_from_nothing(statistics: EndpointStatistics) -> None:
    statistics.add_server_times(ServerTimes(1000, 50.0, 90.0), ServerTimes(3, 0.5, 1.5))
    assert (statistics.server_requests, statistics.server_queue_s, statistics.server_compute_s) == (
        3,
        0.5,
        1.5,
    )


def test_times_that_a_server_sets_back_count_nothing(statistics: EndpointStatistics) -> None:
    statistics.add_server_times(ServerTimes(3, 2.0, 2.0), ServerTimes(4, 1.0, 2.5))
    assert (statistics.server_requests, statistics.server_queue_s, statistics.server_compute_s) == (
        1,
        0.0,
        0.5,
    )


def test_two_endpoints_share_nothing() -> None:
    first, second = EndpointStatistics("a"), EndpointStatistics("b")
    first.answered(answer(), 5)
    first.failed(error(), 1.0)
    first.retries["overload"] += 1
    assert second == EndpointStatistics("b")
