"""The number of requests under way: rules of one limit, and many clients at one simulated server."""

from __future__ import annotations

import heapq
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protosonic.inference.concurrency import AdaptiveLimit


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def answers(limit: AdaptiveLimit, n: int, *, latency_s: float = 0.1, sent_at: float = 0.0) -> None:
    """Answers to requests of a client that always uses its whole limit."""
    for _ in range(n):
        limit.on_success(latency_s, limit.limit, sent_at=sent_at)


def test_it_starts_with_one_request_and_doubles_per_round_until_the_first_congestion() -> None:
    limit = AdaptiveLimit(most=64, latency_target_s=1)
    seen = [limit.limit]
    for _ in range(6):
        answers(limit, limit.limit)
        seen.append(limit.limit)
    assert seen == [1, 2, 4, 8, 16, 32, 64]
    assert limit.in_slow_start


def test_after_the_first_congestion_it_grows_by_one_per_round() -> None:
    clock = Clock()
    limit = AdaptiveLimit(most=64, latency_target_s=1, start=10, clock=clock)
    limit.on_timeout(sent_at=0)
    assert limit.limit == 5
    assert not limit.in_slow_start
    clock.now = 1
    answers(limit, 5, sent_at=1)
    assert limit.limit == 5
    answers(limit, 1, sent_at=1)
    assert limit.limit == 6


@pytest.mark.parametrize(("signal", "left"), [("slow", 14), ("overload", 15), ("timeout", 10)])
def test_congestion_shrinks_it_in_proportion(signal: str, left: int) -> None:
    limit = AdaptiveLimit(most=64, latency_target_s=1, start=20)
    if signal == "slow":
        limit.on_success(1.001, 20, sent_at=0)
    else:
        getattr(limit, f"on_{signal}")(sent_at=0)
    assert limit.limit == left


def test_an_answer_at_the_target_is_no_congestion() -> None:
    limit = AdaptiveLimit(most=64, latency_target_s=1, start=20)
    limit.on_success(1.0, 20, sent_at=0)
    assert limit.limit == 21


def test_of_one_round_only_the_first_sign_of_congestion_counts() -> None:
    clock = Clock()
    limit = AdaptiveLimit(most=64, latency_target_s=1, start=64, clock=clock)
    clock.now = 5
    limit.on_timeout(sent_at=3)
    for sent_at in (2.0, 3.0, 4.9):
        limit.on_timeout(sent_at=sent_at)
        limit.on_success(9.0, 64, sent_at=sent_at)
    assert limit.limit == 32
    limit.on_timeout(sent_at=5)
    assert limit.limit == 16


def test_good_answers_from_before_a_decrease_do_not_undo_it() -> None:
    clock = Clock()
    limit = AdaptiveLimit(most=64, latency_target_s=1, start=20, clock=clock)
    clock.now = 5
    limit.on_timeout(sent_at=4)
    answers(limit, 100, sent_at=4)
    assert limit.limit == 10


@pytest.mark.parametrize("slow_start", [True, False])
def test_a_limit_that_is_not_used_does_not_grow(slow_start: bool) -> None:
    limit = AdaptiveLimit(most=64, latency_target_s=1, start=20)
    if not slow_start:
        limit.on_timeout(sent_at=-1)
    before = limit.limit
    for _ in range(100):
        limit.on_success(0.1, before // 2 - 1, sent_at=1e9)
    assert limit.limit == before


def test_a_reset_begins_anew() -> None:
    clock = Clock()
    limit = AdaptiveLimit(most=64, latency_target_s=1, start=2, clock=clock)
    clock.now = 5
    answers(limit, 20)
    limit.on_overload(sent_at=5)
    limit.reset()
    assert limit.limit == 2
    assert limit.in_slow_start
    answers(limit, 2, sent_at=0)
    assert limit.limit == 4


@pytest.mark.parametrize(
    ("most", "target", "start"),
    [(0, 1, 1), (8, 0, 1), (8, -1, 1), (8, float("nan"), 1), (8, 1, 9), (8, 1, 0)],
)
def test_a_limit_that_makes_no_sense_is_refused(most: int, target: float, start: float) -> None:
    with pytest.raises(ValueError, match="no limit"):
        AdaptiveLimit(most, target, start)


@given(
    st.integers(1, 64),
    st.lists(
        st.tuples(
            st.sampled_from(["success", "overload", "timeout", "reset"]),
            st.floats(0, 10),
            st.integers(1, 64),
            st.floats(0, 20),
        ),
        max_size=200,
    ),
)
def test_it_stays_between_one_and_the_cap_whatever_happens(
    most: int, events: list[tuple[str, float, int, float]]
) -> None:
    clock = Clock()
    limit = AdaptiveLimit(most, latency_target_s=2, clock=clock)
    for name, latency_s, in_flight, sent_at in events:
        clock.now += 0.1
        before = limit.limit
        if name == "success":
            limit.on_success(latency_s, in_flight, sent_at=sent_at)
            if latency_s > 2:
                assert limit.limit <= before
        elif name == "reset":
            limit.reset()
        else:
            getattr(limit, f"on_{name}")(sent_at=sent_at)
            assert limit.limit <= before + limit.is_paced, "requests that are spread may overlap"
        assert 1 <= limit.limit <= most


class SharedServer:
    """Clients with an adaptive limit each at one server that serves in order of arrival, one after the other.

    Parameters
    ----------
    starts
        When each client begins, in seconds.
    service_s
        Mean time that one request takes.
    seed
        Of the variation of the service time, a factor from 0.5 to 1.5.
    """

    def __init__(
        self, starts: list[float], service_s: float, *, target_s: float, most: int, seed: int = 1
    ) -> None:
        self._clock = Clock()
        self._random = random.Random(seed)
        self._service_s = service_s
        self._free_at = 0.0
        self._events: list[tuple[float, int, int, float, int]] = []
        self._number = itertools.count()
        self.limits = [AdaptiveLimit(most, target_s, clock=self._clock) for _ in starts]
        self.in_flight = [0] * len(starts)
        self.served = [0] * len(starts)
        self.area = [0.0] * len(starts)
        self.longest_queue = 0
        self.latencies: list[float] = []
        for client, start in enumerate(starts):
            heapq.heappush(self._events, (start, next(self._number), client, -1.0, 0))

    def run(self, until_s: float, measure_from_s: float = 0.0) -> None:
        """Serve; measure in-flight counts, queue and latencies from a time on."""
        while self._events[0][0] < until_s:
            now, _, client, sent_at, in_flight = heapq.heappop(self._events)
            if now > measure_from_s:
                passed = now - max(self._clock.now, measure_from_s)
                for other, count in enumerate(self.in_flight):
                    self.area[other] += passed * count
                self.longest_queue = max(self.longest_queue, sum(self.in_flight))
            self._clock.now = now
            if sent_at >= 0:
                self.in_flight[client] -= 1
                self.limits[client].on_success(now - sent_at, in_flight, sent_at=sent_at)
                if now > measure_from_s:
                    self.served[client] += 1
                    self.latencies.append(now - sent_at)
            while self.in_flight[client] < self.limits[client].limit:
                self._send(client)

    def _send(self, client: int) -> None:
        now = self._clock.now
        self.in_flight[client] += 1
        self._free_at = max(self._free_at, now) + self._service_s * self._random.uniform(0.5, 1.5)
        heapq.heappush(self._events, (self._free_at, next(self._number), client, now, self.in_flight[client]))


@pytest.mark.parametrize("clients", [2, 5, 10])
@pytest.mark.parametrize("spread_s", [0.0, 3.0, 60.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_clients_share_a_server_evenly_whenever_they_start(clients: int, spread_s: float, seed: int) -> None:
    starts = [spread_s * client / clients for client in range(clients)]
    server = SharedServer(starts, service_s=0.02, target_s=2.0, most=64, seed=seed)
    server.run(until_s=400, measure_from_s=200)
    assert max(server.area) <= 2 * min(server.area)
    assert max(server.served) <= 2 * min(server.served)
    # 100 requests fill the target latency, or all clients' caps where these are lower.
    assert server.longest_queue <= min(150, 64 * clients)
    assert max(server.latencies) < 3.0
    # The server is never left without work.
    assert sum(server.served) >= 0.98 * 200 / 0.02


def test_the_queue_stays_bounded_from_the_first_moment_when_all_start_at_once() -> None:
    server = SharedServer([0.0] * 64, service_s=0.02, target_s=2.0, most=64)
    server.run(until_s=120)
    assert server.longest_queue <= 3 * 2.0 / 0.02
    assert max(server.served) <= 2 * min(server.served)


def test_more_clients_than_the_target_has_room_for_keep_one_request_each() -> None:
    server = SharedServer([0.0] * 300, service_s=0.02, target_s=2.0, most=64)
    server.run(until_s=120, measure_from_s=60)
    assert server.longest_queue <= 1.2 * 300
    assert max(server.served) <= 2 * min(server.served)


def test_a_single_client_at_a_fast_server_reaches_the_cap_and_stays_there() -> None:
    server = SharedServer([0.0], service_s=0.001, target_s=2.0, most=32)
    server.run(until_s=5)
    assert server.limits[0].limit == 32
    server.run(until_s=10)
    assert server.limits[0].limit == 32
