"""What users of the client library get when something fails."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from integration.faults.scripted_server import Failure, ScriptedServer
from integration.serving import sparse_patches
from protosonic.errors import ModelError, ServiceError
from protosonic.inference import Client, EndpointOptions
from protosonic.inference.client import Pending
from protosonic.inference.failure_policy import EndpointError, FailureClass
from support.clients import Gate, assert_scores_equal, options_for
from support.models import linear_weights, write_linear_model

Patches = NDArray[np.float32]
FULL = Failure(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
GONE = Failure(grpc.StatusCode.UNAVAILABLE, "Socket closed")


@pytest.mark.parametrize("failure", [FULL, GONE, Failure(grpc.StatusCode.INTERNAL, "the backend failed")])
def test_a_failure_that_passes_is_not_seen(
    server: ScriptedServer, client: Client, score: Callable[[Patches], Patches], failure: Failure
) -> None:
    patches = sparse_patches(40)
    client.infer(patches)
    server.reply("ModelInfer", failure, times=2)
    assert_scores_equal(client.infer(patches), score(patches))
    assert client.statistics.retries.total() == 2


def test_a_request_that_always_fails_is_tried_a_bounded_number_of_times(
    server: ScriptedServer, model: Path
) -> None:
    with Client(options_for(server), model, retries=2, patience_s=1.0) as client:
        client.infer(sparse_patches(1))
        before = len(server.received("ModelInfer"))
        server.reply("ModelInfer", Failure(grpc.StatusCode.INTERNAL, "the backend failed"))
        with pytest.raises(ServiceError, match="the endpoint cannot serve"):
            client.infer(sparse_patches(1))
        assert len(server.received("ModelInfer")) - before <= 3 + 1  # one more for a probe


def test_a_failure_that_cannot_pass_is_raised_at_once(server: ScriptedServer, client: Client) -> None:
    client.infer(sparse_patches(1))
    before = len(server.received("ModelInfer"))
    server.reply("ModelInfer", Failure(grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape"))
    with pytest.raises(ServiceError, match="unexpected shape") as caught:
        client.infer(sparse_patches(1))
    assert server.url in str(caught.value)
    assert "polic" not in str(caught.value)
    assert len(server.received("ModelInfer")) - before == 1


def test_patience_with_an_overloaded_endpoint_ends(server: ScriptedServer, model: Path) -> None:
    with Client(options_for(server), model, patience_s=0.2) as client:
        client.infer(sparse_patches(1))
        server.reply("ModelInfer", FULL)
        with pytest.raises(ServiceError, match="Exceeds maximum queue size"):
            client.infer(sparse_patches(1))
        assert set(client.statistics.retries) == {"overload"}


def test_after_a_failure_the_client_can_be_used_again(
    server: ScriptedServer, client: Client, score: Callable[[Patches], Patches]
) -> None:
    patches = sparse_patches(40)
    server.reply("ModelInfer", Failure(grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape"))
    pending = [client.send(client.prepare(patches)) for _ in range(3)]
    for one in pending:
        with pytest.raises(ServiceError, match="unexpected shape"):
            one.retrieve()
        assert one.is_done
    server.reply_rightly()
    assert_scores_equal(client.infer(patches), score(patches))
    with pytest.raises(ServiceError):
        pending[0].retrieve()


def test_another_model_under_the_right_name_is_refused(server: ScriptedServer, tmp_path: Path) -> None:
    other = write_linear_model(tmp_path / "other.onnx", linear_weights(seed=7))
    with Client(options_for(server), other) as client:
        with pytest.raises(ServiceError, match="not those of the local model"):
            client.infer(sparse_patches(5))
        with pytest.raises(EndpointError) as caught:
            client.describe()
        assert caught.value.failure is FailureClass.WRONG_MODEL


def test_without_a_local_model_only_the_contract_is_checked(
    server: ScriptedServer, score: Callable[[Patches], Patches]
) -> None:
    patches = sparse_patches(30)
    with Client(options_for(server)) as client:
        assert client.describe().deviation is None
        assert_scores_equal(client.infer(patches), score(patches))
        assert client.statistics.deviation is None
    sizes = [call.patches for call in server.received("ModelInfer")]
    assert sorted(sizes) == [12, 16, 16, 18]  # two golden batches, and no golden patches besides the hits


def test_a_description_of_nobody_says_so_at_once(model: Path) -> None:
    with (
        Client(EndpointOptions("grpc://127.0.0.1:1"), model) as client,
        pytest.raises(EndpointError, match="the liveness check failed") as caught,
    ):
        client.describe()
    assert caught.value.failure is FailureClass.UNAVAILABLE


def test_a_local_model_that_cannot_be_used_is_named(server: ScriptedServer, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with Client(options_for(server), broken) as client:
        for use in (client.describe, lambda: client.infer(sparse_patches(1))):
            with pytest.raises(ModelError, match=r"broken\.onnx"):
                use()


def own_threads() -> list[str]:
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith(("dispatcher", "endpoint-check"))
    ]


def test_a_closed_client_says_so_and_leaves_no_thread(server: ScriptedServer, model: Path) -> None:
    client = Client(options_for(server), model)
    client.infer(sparse_patches(2))
    assert own_threads() == ["dispatcher", "endpoint-check_0"]
    client.close()
    client.close()
    assert own_threads() == []
    assert client.statistics.patches == 2
    for use in (client.describe, lambda: client.infer(sparse_patches(1))):
        with pytest.raises(RuntimeError, match="the client is closed"):
            use()


def test_closing_wakes_a_thread_that_waits_for_scores(server: ScriptedServer, client: Client) -> None:
    client.infer(sparse_patches(1))
    gate = Gate()
    server.reply("ModelInfer", gate)
    pending = client.send(client.prepare(sparse_patches(2)))
    errors: list[str] = []
    is_waiting = threading.Event()

    def retrieve(pending: Pending) -> None:
        is_waiting.set()
        try:
            pending.retrieve()
        except ServiceError as error:
            errors.append(error.message)

    thread = threading.Thread(target=retrieve, args=(pending,))
    thread.start()
    assert is_waiting.wait(60)
    client.close()
    thread.join(60)
    gate.open.set()
    assert errors == ["the client was closed"]


def test_an_interrupt_gives_up_what_is_under_way_and_nothing_else(
    client: Client, score: Callable[[Patches], Patches], monkeypatch: pytest.MonkeyPatch
) -> None:
    patches = sparse_patches(4)
    pending = client.send(client.prepare(patches))

    def interrupted(condition: Callable[[], bool]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(client._dispatcher, "take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pending.retrieve()
    with pytest.raises(ServiceError, match="interrupt"):
        pending.retrieve()
    assert_scores_equal(client.infer(patches), score(patches))


FORK = """
import multiprocessing, sys
import numpy as np
from protosonic.inference import Client, EndpointOptions
from protosonic.inference.client import Pending

def use(client):
    for method in (client.describe, lambda: client.infer(np.zeros((1, 48, 48))), Pending(client, 1).retrieve):
        try:
            method()
        except RuntimeError as error:
            print(error, flush=True)
    client.close()

client = Client(EndpointOptions("grpc://127.0.0.1:1"))
process = multiprocessing.get_context("fork").Process(target=use, args=(client,))
process.start()
process.join()
sys.exit(process.exitcode)
"""


def test_a_client_that_was_carried_through_a_fork_says_so() -> None:
    """In a process of its own, where nothing of gRPC runs that a fork could break."""
    process = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=True)
    assert (
        process.stdout.splitlines()
        == ["a Client was carried through a fork; make it in the process that uses it"] * 3
    )


def test_neither_client_nor_options_show_a_token(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SOME_TOKEN", "c0ffee")
    caplog.set_level("DEBUG")
    with (
        ScriptedServer(model, token="another") as server,
        Client(options_for(server, token_env="SOME_TOKEN"), model, patience_s=0.1) as client,
    ):
        with pytest.raises(ServiceError) as caught:
            client.infer(sparse_patches(1))
        shown = "".join([repr(client), repr(client.options), str(caught.value), repr(client.statistics)])
    assert "expired" in shown
    assert "c0ffee" not in shown + caplog.text
    assert server.calls[0].metadata["authorization"] == "Bearer c0ffee"
