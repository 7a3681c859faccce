from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from integration.faults.certificates import ServerCertificate
from integration.faults.scripted_server import Failure, ScriptedServer, response
from integration.serving import sparse_patches
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend

PATCHES = sparse_patches(9)


@pytest.fixture
def server(linear_model: Path) -> Iterator[ScriptedServer]:
    with ScriptedServer(linear_model) as server:
        yield server


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.url.removeprefix("grpc://")) as client:
        yield client


def infer(client: triton.InferenceServerClient, model: str = "emtrkmichel") -> triton.InferResult:
    tensor = triton.InferInput("main_input", (*PATCHES.shape, 1), "FP32")
    tensor.set_data_from_numpy(PATCHES[..., None])
    return client.infer(model, [tensor], client_timeout=60)


def test_without_a_script_it_serves_the_model(
    server: ScriptedServer, client: triton.InferenceServerClient, linear_model: Path
) -> None:
    assert client.is_server_live(client_timeout=60)
    assert client.is_server_ready(client_timeout=60)
    assert client.is_model_ready("emtrkmichel", "1", client_timeout=60)
    assert not client.is_model_ready("emtrkmichel", "2", client_timeout=60)
    [model] = client.get_model_repository_index(client_timeout=60).models
    assert (model.name, model.version, model.state) == ("emtrkmichel", "1", "READY")
    assert client.get_model_config("emtrkmichel", client_timeout=60).config.max_batch_size == 1024
    metadata = client.get_model_metadata("emtrkmichel", client_timeout=60)
    assert [list(tensor.shape) for tensor in metadata.outputs] == [[-1, 3], [-1, 1]]
    answer = infer(client)
    expected = OnnxRuntimeBackend(linear_model, threads=1).infer(PATCHES)
    np.testing.assert_array_equal(answer.as_numpy("em_trk_none_netout"), expected[:, :3])
    np.testing.assert_array_equal(answer.as_numpy("michel_netout"), expected[:, 3:])
    statistics = client.get_inference_statistics("emtrkmichel", client_timeout=60)
    assert statistics.model_stats[0].inference_stats.success.count == 1
    [call] = server.received("ModelInfer")
    assert call.patches == 9
    assert call.deadline_s is not None
    assert 50 < call.deadline_s < 61


def test_a_call_without_a_deadline_is_seen(
    server: ScriptedServer, client: triton.InferenceServerClient
) -> None:
    client.is_server_live()
    [call] = server.received("ServerLive")
    assert call.deadline_s is None


def test_it_knows_no_other_model(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="Request for unknown model: 'another' is not found"):
        infer(client, "another")


def test_it_fails_as_often_as_the_script_says(
    server: ScriptedServer, client: triton.InferenceServerClient
) -> None:
    server.reply("ModelInfer", Failure(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size"), times=2)
    for _ in range(2):
        with pytest.raises(InferenceServerException, match="maximum queue size"):
            infer(client)
    infer(client)
    server.reply("ServerLive", Failure(grpc.StatusCode.INTERNAL))
    for _ in range(2):
        with pytest.raises(InferenceServerException):
            client.is_server_live(client_timeout=60)
    server.reply_rightly()
    assert client.is_server_live(client_timeout=60)


def test_it_answers_what_the_script_makes_of_the_right_answer(
    server: ScriptedServer, client: triton.InferenceServerClient
) -> None:
    server.reply("ModelInfer", lambda _: response({"other": np.zeros((1, 2), np.float32)}, version="7"))
    answer = infer(client)
    assert answer.get_response().model_version == "7"
    assert answer.as_numpy("michel_netout") is None


def test_tls_with_client_certificates_and_a_token(linear_model: Path, tmp_path: Path) -> None:
    certificate, token = ServerCertificate.make(tmp_path), "secret"
    with ScriptedServer(
        linear_model, certificate=certificate, client_certificates=True, token=token
    ) as server:
        address = server.url.removeprefix("grpcs://")
        files = {
            "root_certificates": str(certificate.authority),
            "private_key": str(certificate.client_key),
            "certificate_chain": str(certificate.client_chain),
        }
        with triton.InferenceServerClient(address, ssl=True, **files) as client:
            headers = {"authorization": f"Bearer {token}"}
            assert client.is_server_live(headers=headers, client_timeout=60)
            with pytest.raises(InferenceServerException, match="expired"):
                client.is_server_live(client_timeout=60)
        with (
            triton.InferenceServerClient(
                address, ssl=True, root_certificates=str(certificate.authority)
            ) as client,
            pytest.raises(InferenceServerException),
        ):
            client.is_server_live(headers=headers, client_timeout=10)
    assert server.received("ServerLive")[0].metadata["authorization"] == "Bearer secret"
