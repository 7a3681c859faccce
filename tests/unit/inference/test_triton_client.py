"""The channel to an endpoint: how it connects, what it does not do by itself, and what the check asks."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from integration.faults.proxy import FaultProxy
from integration.faults.scripted_server import Failure, ScriptedServer
from protosonic.inference.endpoint_options import EndpointOptions
from protosonic.inference.failure_policy import Action, EndpointError, FailureClass
from protosonic.inference.golden import NoReference
from protosonic.inference.health import check_endpoint
from protosonic.inference.triton_client import TritonClient

PATCHES = np.zeros((3, 48, 48), np.float32)


@contextlib.contextmanager
def client_of(url: str, **options: object) -> Iterator[TritonClient]:
    client = TritonClient(EndpointOptions(url, connect_timeout_s=20.0, **options))
    try:
        yield client
    finally:
        client.close()


def check(client: TritonClient) -> None:
    check_endpoint(client, NoReference())


def test_the_check_asks_for_the_model_and_not_for_the_whole_server(server: ScriptedServer) -> None:
    """A server is not ready while it loads any model, and ready when ours was unloaded."""
    server.reply("ServerReady", lambda _: service_pb2.ServerReadyResponse(ready=False))
    with client_of(server.url) as client:
        check(client)
        server.reply("ModelReady", lambda _: service_pb2.ModelReadyResponse(ready=False))
        with pytest.raises(EndpointError, match="the model is not ready") as caught:
            check(client)
    assert caught.value.failure is FailureClass.NOT_READY
    assert caught.value.action is Action.RETRY
    assert server.received("ServerReady") == []


def test_nothing_is_tried_again_behind_the_back_of_the_dispatcher(server: ScriptedServer) -> None:
    server.reply("ModelInfer", Failure(grpc.StatusCode.UNAVAILABLE, "Socket closed"))
    with client_of(server.url) as client:
        with pytest.raises(EndpointError):
            client.infer(client.prepare(PATCHES))
        assert len(server.received("ModelInfer")) == 1


def test_one_connection_carries_all_requests_and_a_new_client_makes_a_new_one(server: ScriptedServer) -> None:
    with FaultProxy(int(server.url.rpartition(":")[2])) as proxy:
        for number in (1, 2):
            with client_of(proxy.url) as client:
                check(client)
                for _ in range(5):
                    client.infer(client.prepare(PATCHES))
                assert proxy.connections == number


def test_requests_are_spread_over_all_addresses_of_a_name(model: Path) -> None:
    with ScriptedServer(model) as first, ScriptedServer(model) as second:
        addresses = ",".join(server.url.removeprefix("grpc://") for server in (first, second))
        with client_of(f"grpc://ipv4:{addresses}") as client:
            for _ in range(20):
                client.infer(client.prepare(PATCHES))
        shares = Counter({server.url: len(server.received("ModelInfer")) for server in (first, second)})
    assert sum(shares.values()) == 20
    assert min(shares.values()) >= 5


def test_compression_and_headers_are_sent_and_the_scores_are_the_same(server: ScriptedServer) -> None:
    scores = []
    for compression in ("none", "gzip", "deflate"):
        with client_of(server.url, compression=compression, headers={"x-team": "dune"}) as client:
            scores.append(client.infer(client.prepare(PATCHES + 0.5)).scores)
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])
    assert {call.metadata["x-team"] for call in server.calls} == {"dune"}


def test_the_channel_pings_nobody_and_limits_no_message(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, object] = {}
    make = grpc.insecure_channel

    def spy(target: str, options: list[tuple[str, object]]) -> grpc.Channel:
        made.update(options)
        return make(target, options=options)

    monkeypatch.setattr(grpc, "insecure_channel", spy)
    with client_of(server.url) as client:
        check(client)
    assert [name for name in made if "keepalive" in name] == []
    assert made["grpc.max_receive_message_length"] == made["grpc.max_send_message_length"] == 2**31 - 1


def test_importing_the_package_loads_no_grpc() -> None:
    """So that a process may fork before it makes its client."""
    code = (
        "import sys, protosonic.inference.dispatcher, protosonic.inference.triton_client, protosonic.stages.infer;"
        "sys.exit('grpc' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_client_that_was_carried_through_a_fork_says_so(server: ScriptedServer) -> None:
    with client_of(server.url) as client:
        client._pid = os.getpid() + 1
        with pytest.raises(RuntimeError, match="carried through a fork"):
            client.is_live()


def test_nothing_is_connected_before_the_first_call() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.3)
        with client_of(f"grpc://127.0.0.1:{listener.getsockname()[1]}"), pytest.raises(TimeoutError):
            listener.accept()
