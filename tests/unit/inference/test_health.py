"""What an endpoint must prove before it gets work, against a server that fails at every single step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from integration.faults.scripted_server import Failure, Reply, ScriptedServer, response
from protosonic.inference.endpoint_options import EndpointOptions
from protosonic.inference.failure_policy import Action, EndpointError, FailureClass
from protosonic.inference.golden import Reference
from protosonic.inference.health import ServedModel, check_endpoint
from protosonic.inference.triton_client import TritonClient

STEPS = ["ServerLive", "RepositoryIndex", "ModelReady", "ModelMetadata", "ModelConfig", "ModelInfer"]
UNKNOWN_CALL = Failure(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


@pytest.fixture(scope="module")
def reference(score: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Reference:
    return Reference(score, tolerance=1e-5)


@pytest.fixture
def check(server: ScriptedServer, reference: Reference) -> Iterator[Callable[..., ServedModel]]:
    """Check the server over a new connection."""
    clients = []

    def run(**options: Any) -> ServedModel:
        clients.append(TritonClient(EndpointOptions(server.url, connect_timeout_s=20, **options)))
        return check_endpoint(clients[-1], reference)

    yield run
    for client in clients:
        client.close()


def rpcs(server: ScriptedServer) -> list[str]:
    return [call.rpc for call in server.calls]


def metadata(**changes: Any) -> Callable[[Any], Any]:
    """The right metadata with other tensors: name → (type, shape)."""

    def change(answer: Any) -> Any:
        for kind in ("inputs", "outputs"):
            if kind in changes:
                del getattr(answer, kind)[:]
                for name, (datatype, shape) in changes[kind].items():
                    getattr(answer, kind).add(name=name, datatype=datatype, shape=shape)
        return answer

    return change


def test_a_right_endpoint_passes_every_step_in_its_order(server: ScriptedServer, check: Any) -> None:
    served = check(version="1")
    assert rpcs(server) == STEPS
    assert (served.version, served.max_batch_size, served.deviation) == ("1", 1024, 0.0)
    assert served.tensors.outputs == {
        "em_trk_none_netout": "em_trk_none_netout",
        "michel_netout": "michel_netout",
    }
    assert [call.patches for call in server.received("ModelInfer")] == [16]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (Failure(grpc.StatusCode.UNAVAILABLE, "Socket closed"), FailureClass.UNAVAILABLE),
        (Failure(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size"), FailureClass.OVERLOAD),
        (Failure(grpc.StatusCode.UNAUTHENTICATED, "Jwt is missing"), FailureClass.UNAUTHENTICATED),
        (Failure(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"), FailureClass.TIMEOUT),
        (Failure(grpc.StatusCode.INTERNAL, "it is broken"), FailureClass.BACKEND),
    ],
)
def test_the_first_step_that_fails_ends_the_check(
    server: ScriptedServer, check: Any, step: str, failure: Failure, expected: FailureClass
) -> None:
    server.reply(step, failure)
    with pytest.raises(EndpointError, match=failure.message) as caught:
        check()
    assert caught.value.failure is expected
    assert rpcs(server) == STEPS[: STEPS.index(step) + 1]
    assert server.url in str(caught.value)


def test_a_server_that_is_not_live_may_become_so(server: ScriptedServer, check: Any) -> None:
    server.reply("ServerLive", lambda _: service_pb2.ServerLiveResponse(live=False))
    with pytest.raises(EndpointError, match="the server is not live") as caught:
        check()
    assert caught.value.failure is FailureClass.NOT_READY
    assert caught.value.action is Action.RETRY
    assert rpcs(server) == ["ServerLive"]


@pytest.mark.parametrize("message", ["", "rejected: the load is above its threshold"])
def test_a_rejected_list_of_models_says_that_the_site_is_busy(
    server: ScriptedServer, check: Any, message: str
) -> None:
    server.reply("RepositoryIndex", Failure(grpc.StatusCode.CANCELLED, message))
    with pytest.raises(EndpointError) as caught:
        check()
    assert caught.value.failure is FailureClass.OVERLOAD
    assert caught.value.action is Action.WAIT
    assert server.received("ModelInfer") == []


@pytest.mark.parametrize("rpc", ["RepositoryIndex", "ModelConfig"])
def test_a_call_that_is_an_extension_of_the_protocol_may_be_missing(
    server: ScriptedServer, check: Any, rpc: str
) -> None:
    server.reply(rpc, UNKNOWN_CALL)
    served = check()
    assert served.max_batch_size == (0 if rpc == "ModelConfig" else 1024)


def test_statistics_may_be_missing_too(server: ScriptedServer) -> None:
    server.reply("ModelStatistics", UNKNOWN_CALL)
    client = TritonClient(EndpointOptions(server.url))
    assert client.server_times() is None
    client.close()


@pytest.mark.parametrize("rpc", ["ServerLive", "ModelReady", "ModelMetadata", "ModelInfer"])
def test_a_call_of_the_protocol_itself_may_not_be_missing(
    server: ScriptedServer, check: Any, rpc: str
) -> None:
    server.reply(rpc, UNKNOWN_CALL)
    with pytest.raises(EndpointError) as caught:
        check()
    assert caught.value.failure is FailureClass.PROTOCOL
    assert caught.value.action is Action.REFUSE


@pytest.mark.parametrize("options", [{"model": "other"}, {"version": "2"}])
def test_a_model_that_is_not_ready_may_become_so(
    server: ScriptedServer, check: Any, options: dict[str, str]
) -> None:
    with pytest.raises(EndpointError, match="the model is not ready") as caught:
        check(**options)
    assert caught.value.failure is FailureClass.NOT_READY
    assert "Check model.name and model.version" in str(caught.value)
    assert server.received("ModelMetadata") == []


@pytest.mark.parametrize(
    "reply",
    [
        metadata(inputs={"image": ("FP32", [-1, 48, 48, 1])}),
        metadata(inputs={"main_input": ("FP32", [-1, 44, 48, 1])}),
        metadata(inputs={"main_input": ("FP16", [-1, 48, 48, 1])}),
        metadata(inputs={"main_input": ("FP32", [1, 48, 48, 1])}),
        metadata(inputs={"main_input": ("FP32", [-1, 48, 48, 1]), "second": ("FP32", [-1, 1])}),
        metadata(inputs={}),
        metadata(outputs={"em_trk_none_netout": ("FP32", [-1, 3])}),
        metadata(outputs={"em_trk_none_netout": ("FP32", [-1, 4]), "michel_netout": ("FP32", [-1, 1])}),
        metadata(outputs={"em_trk_none_netout": ("FP64", [-1, 3]), "michel_netout": ("FP32", [-1, 1])}),
        metadata(outputs={}),
    ],
)
def test_other_tensors_than_those_of_the_contract_are_another_model(
    server: ScriptedServer, check: Any, reply: Reply
) -> None:
    server.reply("ModelMetadata", reply)
    with pytest.raises(EndpointError, match="does not meet the contract") as caught:
        check()
    assert caught.value.failure is FailureClass.WRONG_MODEL
    assert server.received("ModelInfer") == []


def test_the_names_that_a_conversion_gives_are_used_in_requests(server: ScriptedServer, check: Any) -> None:
    names = ("em_trk_none_netout/Softmax:0", "michel_netout/Sigmoid:0")
    server.reply(
        "ModelMetadata",
        metadata(outputs={names[0]: ("FP32", [-1, 3]), names[1]: ("FP32", [-1, 1])}),
    )

    def renamed(answer: Any) -> Any:
        for output, name in zip(answer.outputs, names, strict=True):
            output.name = name
        return answer

    server.reply("ModelInfer", renamed)
    assert tuple(check().tensors.outputs.values()) == names


def test_wrong_scores_under_the_right_names_are_another_model(server: ScriptedServer, check: Any) -> None:
    wrong = {
        "em_trk_none_netout": np.full((16, 3), 1 / 3, np.float32),
        "michel_netout": np.full((16, 1), 0.5, np.float32),
    }
    server.reply("ModelInfer", lambda _: response(wrong))
    with pytest.raises(EndpointError, match="not those of the local model") as caught:
        check()
    assert caught.value.failure is FailureClass.WRONG_MODEL
    assert caught.value.action is Action.REFUSE


@pytest.mark.parametrize(("most", "sizes"), [(1, [1] * 16), (5, [5, 5, 5, 1]), (16, [16]), (64, [16])])
def test_the_golden_batch_is_sent_in_parts_where_the_server_takes_less(
    model: Path, reference: Reference, most: int, sizes: list[int]
) -> None:
    with ScriptedServer(model, max_batch_size=most) as server:
        client = TritonClient(EndpointOptions(server.url))
        served = check_endpoint(client, reference)
        client.close()
    assert served.max_batch_size == most
    assert [call.patches for call in server.received("ModelInfer")] == sizes


def test_after_the_check_a_missing_model_is_taken_for_an_update(
    server: ScriptedServer, reference: Reference
) -> None:
    client = TritonClient(EndpointOptions(server.url))
    request = client.prepare(reference.patches)
    gone = Failure(grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'emtrkmichel' is not found")
    found = []
    for _ in range(2):
        server.reply("ModelInfer", gone, times=1)
        with pytest.raises(EndpointError) as caught:
            client.infer(request)
        found.append(caught.value.failure)
        check_endpoint(client, reference)
    client.close()
    assert found == [FailureClass.UNKNOWN_MODEL, FailureClass.NOT_READY]
