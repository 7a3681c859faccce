from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from integration.faults.scripted_server import ScriptedServer
from integration.faults.token_gate import TokenGate
from integration.serving import sparse_patches
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend

PATCHES = sparse_patches(600)
RIGHT = {"authorization": "Bearer secret"}


@pytest.fixture
def gate(linear_model: Path) -> Iterator[TokenGate]:
    with ScriptedServer(linear_model) as server:
        port = int(server.url.rpartition(":")[2])
        with TokenGate(port, "secret") as gate:
            yield gate


@pytest.fixture
def client(gate: TokenGate) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(gate.url.removeprefix("grpc://")) as client:
        yield client


def infer(client: triton.InferenceServerClient, headers: dict[str, str]) -> triton.InferResult:
    tensor = triton.InferInput("main_input", (*PATCHES.shape, 1), "FP32")
    tensor.set_data_from_numpy(PATCHES[..., None])
    return client.infer("emtrkmichel", [tensor], client_timeout=60, headers=headers)


def test_the_right_token_opens_it_and_answers_come_through_unchanged(
    gate: TokenGate, client: triton.InferenceServerClient, linear_model: Path
) -> None:
    found = infer(client, RIGHT).as_numpy("em_trk_none_netout")
    expected = OnnxRuntimeBackend(linear_model, threads=1).infer(PATCHES)[:, :3]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert (gate.passed, gate.refused) == (1, 0)


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer other"}, {"authorization": "secret"}])
def test_no_other_token_does(
    gate: TokenGate, client: triton.InferenceServerClient, headers: dict[str, str]
) -> None:
    with pytest.raises(InferenceServerException, match="Jwt is expired") as caught:
        infer(client, headers)
    assert caught.value.status() == "StatusCode.UNAUTHENTICATED"
    assert (gate.passed, gate.refused) == (0, 1)


def test_a_token_that_has_expired_opens_it_no_more(
    gate: TokenGate, client: triton.InferenceServerClient
) -> None:
    assert client.is_server_live(headers=RIGHT, client_timeout=60)
    gate.token = "newer"
    with pytest.raises(InferenceServerException, match="expired"):
        client.is_server_live(headers=RIGHT, client_timeout=60)
    assert client.is_server_live(headers={"authorization": "Bearer newer"}, client_timeout=60)


def test_a_busy_site_rejects_only_those_who_ask_first(
    gate: TokenGate, client: triton.InferenceServerClient
) -> None:
    gate.busy = True
    with pytest.raises(InferenceServerException) as caught:
        client.get_model_repository_index(headers=RIGHT, client_timeout=60)
    assert caught.value.status() == "StatusCode.CANCELLED"
    assert client.is_server_live(headers=RIGHT, client_timeout=60)
    with pytest.raises(InferenceServerException, match="unknown model"):
        client.get_model_metadata("another", headers=RIGHT, client_timeout=60)
