"""An endpoint with fewer places than clients: rules of one limit, and clients at one simulated server."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

import pytest

from protosonic.inference.concurrency import AdaptiveLimit

LATENCY_S = 0.5
SERVICE_S = 0.1


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_refusal_takes_the_limit_below_one_and_spreads_requests_over_time() -> None:
    clock = Clock()
    limit = AdaptiveLimit(most=8, latency_target_s=2, clock=clock)
    assert not limit.is_paced
    assert limit.pace_s(LATENCY_S) == 0
    limit.on_overload(sent_at=0)
    assert limit.is_paced
    assert limit.pace_s(LATENCY_S) == pytest.approx(LATENCY_S / 0.7)
    for _ in range(100):
        clock.now += 1
        limit.on_overload(sent_at=clock.now)
    assert limit.limit == 1
    assert limit.pace_s(LATENCY_S) == pytest.approx(32 * LATENCY_S), "it is never given up"


def test_refusals_of_one_round_count_once() -> None:
    clock = Clock()
    limit = AdaptiveLimit(most=8, latency_target_s=2, start=8, clock=clock)
    clock.now = 5
    for _ in range(8):
        limit.on_overload(sent_at=3)
    assert limit.pace_s(LATENCY_S) == pytest.approx(LATENCY_S / 5.6)


def test_answers_give_a_limit_below_one_back_and_in_the_end_the_pace() -> None:
    clock = Clock()
    limit = AdaptiveLimit(most=8, latency_target_s=2, clock=clock)
    limit.on_overload(sent_at=0)
    limit.on_overload(sent_at=0)
    before = limit.pace_s(LATENCY_S)
    limit.on_success(LATENCY_S, 1, sent_at=1)
    assert limit.pace_s(LATENCY_S) < before
    for _ in range(49):
        assert limit.is_paced
        limit.on_success(LATENCY_S, 1, sent_at=1)
    assert not limit.is_paced
    assert limit.limit >= 1


def test_the_cap_holds_while_requests_are_paced() -> None:
    limit = AdaptiveLimit(most=2, latency_target_s=2, start=2)
    for _ in range(45):
        limit.on_success(0.1, 2, sent_at=0)
    limit.on_overload(sent_at=0)
    for _ in range(40):
        limit.on_success(0.1, 2, sent_at=1)
        assert limit.limit <= 2


class BoundedServer:
    """Clients that always have work, at a server that refuses what does not find a place in its queue.

    Attributes
    ----------
    served, refused
        Requests of every client, after the first quarter of the time.
    """

    def __init__(self, clients: int, places: int, batch: int, seed: int) -> None:
        self._clock = Clock()
        self._places, self._batch = places, batch
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._queue: list[tuple[int, float, int]] = []
        self._is_busy = False
        self._limits = [AdaptiveLimit(8, 2.0, clock=self._clock) for _ in range(clients)]
        self._in_flight = [0] * clients
        self._latency_s = [LATENCY_S] * clients
        self._next = [0.0] * clients
        self._from_s = 0.0
        self.served = [0] * clients
        self.refused = [0] * clients

    def run(self, until_s: float) -> None:
        self._from_s = until_s / 4
        for client in range(len(self._limits)):
            self._at(self._random.uniform(0, 2), lambda client=client: self._send(client))  # type: ignore[misc]
        while self._events and self._events[0][0] < until_s:
            self._clock.now, _, event = heapq.heappop(self._events)
            event()

    def _at(self, time: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._number), event))

    def _send(self, client: int) -> None:
        limit, now = self._limits[client], self._clock.now
        while self._in_flight[client] < limit.limit and now >= self._next[client]:
            self._in_flight[client] += 1
            request = (client, now, self._in_flight[client])
            self._at(now + 0.005, lambda request=request: self._arrive(*request))  # type: ignore[misc]
            self._pace(client)

    def _pace(self, client: int) -> None:
        pause_s = self._limits[client].pace_s(self._latency_s[client]) * self._random.uniform(0.5, 1.5)
        self._next[client] = max(self._next[client], self._clock.now + pause_s)
        if pause_s:
            self._at(self._next[client], lambda: self._send(client))

    def _arrive(self, client: int, sent_at: float, in_flight: int) -> None:
        if len(self._queue) < self._places:
            self._queue.append((client, sent_at, in_flight))
            self._work()
            return
        self._in_flight[client] -= 1
        self.refused[client] += self._clock.now > self._from_s
        self._limits[client].on_overload(sent_at=sent_at)
        self._pace(client)

    def _work(self) -> None:
        if not self._is_busy and self._queue:
            batch = self._queue[: self._batch]
            del self._queue[: self._batch]
            self._is_busy = True
            self._at(self._clock.now + SERVICE_S * len(batch), lambda: self._answer(batch))

    def _answer(self, batch: list[tuple[int, float, int]]) -> None:
        self._is_busy = False
        self._work()
        for client, sent_at, in_flight in batch:
            latency_s = self._clock.now - sent_at
            self._in_flight[client] -= 1
            self.served[client] += self._clock.now > self._from_s
            self._limits[client].on_success(latency_s, in_flight, sent_at=sent_at)
            self._latency_s[client] += (latency_s - self._latency_s[client]) / 8
            self._send(client)


@pytest.mark.parametrize("clients", [1, 2, 8, 24, 72])
@pytest.mark.parametrize(("places", "batch"), [(4, 8), (8, 1), (2, 8)])
def test_the_server_stays_busy_however_many_clients_there_are(clients: int, places: int, batch: int) -> None:
    server = BoundedServer(clients, places, batch, seed=1)
    server.run(until_s=200)
    assert sum(server.served) * SERVICE_S >= 0.95 * 150


@pytest.mark.parametrize(("places", "batch"), [(4, 8), (8, 1)])
def test_with_three_times_as_many_clients_as_places_each_gets_a_share_and_most_requests_a_place(
    places: int, batch: int
) -> None:
    server = BoundedServer(24, places, batch, seed=1)
    server.run(until_s=2000)
    assert min(server.served) >= max(server.served) / 2
    assert sum(server.refused) <= sum(server.served)
