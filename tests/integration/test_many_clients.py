"""Many clients at one endpoint: fair, without loss, and no slower when there are too many."""

from __future__ import annotations

from pathlib import Path

import pytest

from integration.faults.clients import (
    QueueWatch,
    best_by_hand,
    rate,
    run_clients,
    throttled_server,
    write_costly_model,
)
from support.models import linear_weights, write_linear_model

CAPACITY = 3000.0
"""Patches that the server scores in a second."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_linear_model(tmp_path_factory.mktemp("model") / "linear.onnx", linear_weights())


def test_clients_share_an_endpoint_and_lose_nothing(model: Path, tmp_path: Path) -> None:
    """The benchmark does the same with 64 clients and for longer, and compares rates."""
    n = 8
    with throttled_server(tmp_path, model, CAPACITY) as server:
        with QueueWatch(server) as queue:
            shares = run_clients(n, server.url, model, 10.0, max_in_flight=8)
        assert min(share.hits for share in shares) > 0
        assert sum(share.on_cpu for share in shares) == 0
        assert sum(share.failures for share in shares) == 0
        assert queue.longest <= n * 8
        assert best_by_hand(server.url, 2.0, (4,)) > 0


def test_overload_is_no_reason_to_use_the_cpu_or_to_lose_anything(model: Path, tmp_path: Path) -> None:
    with throttled_server(tmp_path, model, CAPACITY, max_queue_size=2) as server:
        shares = run_clients(9, server.url, model, 10.0)
    assert sum(share.overloads for share in shares) > 0
    assert sum(share.on_cpu for share in shares) == 0
    assert min(share.scored for share in shares) > 0


def test_cooperation_gives_the_same_scores_with_a_slow_endpoint(model: Path, tmp_path: Path) -> None:
    costly = tmp_path / "costly.onnx"
    write_costly_model(costly, model)
    with throttled_server(tmp_path, model, 1000.0) as server:
        assert rate("cooperative", server.url, costly, 3000) > 0
        [share] = run_clients(1, server.url, costly, 3.0, policy="cooperative")
    assert 0 < share.on_cpu < share.scored
