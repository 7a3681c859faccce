"""The failure table row by row, as a real client reads the answers of a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest

from integration.faults.scripted_server import Failure, ScriptedServer
from protosonic.inference.endpoint_options import EndpointOptions
from protosonic.inference.failure_policy import (
    ACTIONS,
    TABLE,
    Action,
    EndpointError,
    FailureClass,
    Rule,
    classify,
)
from protosonic.inference.triton_client import TritonClient

ROWS = [
    pytest.param(rule, status, id=f"{number}-{status}")
    for number, rule in enumerate(TABLE)
    for status in rule.statuses
]
FOUND_BY_LOOKING = {FailureClass.WRONG_MODEL, FailureClass.WRONG_ANSWER}


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[TritonClient]:
    client = TritonClient(EndpointOptions(server.url, connect_timeout_s=20.0))
    yield client
    client.close()


@pytest.mark.parametrize(("rule", "status"), ROWS)
def test_every_row_is_what_its_example_means(
    server: ScriptedServer, client: TritonClient, rule: Rule, status: str
) -> None:
    calls: dict[str, Callable[[], object]] = {
        "RepositoryIndex": client.repository_index,
        "ModelInfer": lambda: client.infer(client.prepare(np.zeros((1, 48, 48), np.float32))),
    }
    rpc = "RepositoryIndex" if rule.calls == "admission" else "ModelInfer"
    server.reply(rpc, Failure(grpc.StatusCode[status], rule.example), times=1)
    with pytest.raises(EndpointError) as caught:
        calls[rpc]()
    assert caught.value.status == status
    assert caught.value.failure is rule.failure
    assert caught.value.action is ACTIONS[rule.failure]
    assert rule.example in str(caught.value)


def test_an_error_of_the_client_library_is_not_tried_again() -> None:
    rule = TABLE[-1]
    assert rule.statuses == ()
    assert classify(None, rule.example) is rule.failure
    assert ACTIONS[rule.failure] is Action.REFUSE


def test_every_class_of_failure_has_an_action_and_a_row() -> None:
    assert set(ACTIONS) == set(FailureClass)
    assert {rule.failure for rule in TABLE} == set(FailureClass) - FOUND_BY_LOOKING


@pytest.mark.parametrize("status", [code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
@pytest.mark.parametrize("calls", ["any", "admission", "inference"])
def test_every_status_code_has_a_meaning_whatever_its_message(status: str, calls: str) -> None:
    for message in ("", "words that no server writes", "x" * 10_000):
        assert classify(status, message, calls=calls) in FailureClass


@pytest.mark.parametrize(
    ("status", "message", "failure"),
    [
        ("UNAVAILABLE", "Exceeds maximum queue size", FailureClass.OVERLOAD),
        ("UNAVAILABLE", "Request timeout expired", FailureClass.OVERLOAD),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", FailureClass.TIMEOUT),
        ("RESOURCE_EXHAUSTED", "Received message larger than max (5 vs. 4)", FailureClass.TOO_LARGE),
        ("RESOURCE_EXHAUSTED", "slow down", FailureClass.OVERLOAD),
    ],
)
def test_a_full_queue_is_no_outage_and_a_large_message_is_no_load(
    status: str, message: str, failure: FailureClass
) -> None:
    assert classify(status, message) is failure


def test_a_rejected_list_of_models_is_admission_control_and_a_cancelled_request_is_not() -> None:
    assert classify("CANCELLED", "", calls="admission") is FailureClass.OVERLOAD
    assert classify("CANCELLED", "", calls="inference") is FailureClass.UNAVAILABLE


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("INVALID_ARGUMENT", "Request for unknown model: 'emtrkmichel' is not found"),
        ("NOT_FOUND", "Request for unknown model: 'emtrkmichel' version 2 is not found"),
    ],
)
def test_a_model_that_has_been_ready_and_is_unknown_now_is_being_replaced(status: str, message: str) -> None:
    assert classify(status, message) is FailureClass.UNKNOWN_MODEL
    assert ACTIONS[FailureClass.UNKNOWN_MODEL] is Action.REFUSE
    replaced = classify(status, message, was_ready=True)
    assert replaced is FailureClass.NOT_READY
    assert ACTIONS[replaced] is Action.RETRY
