from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from integration.faults.certificates import ServerCertificate
from integration.faults.servers import NAME, FaultyServer, Repository
from integration.serving import await_true, sparse_patches
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from support.models import linear_weights, write_linear_model

PATCHES = sparse_patches(10)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    return (
        write_linear_model(folder / "model.onnx", linear_weights(0)),
        write_linear_model(folder / "other.onnx", linear_weights(1)),
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models: tuple[Path, Path]) -> Iterator[FaultyServer]:
    folder = tmp_path_factory.mktemp("server")
    repository = Repository(folder / "repository", models[0], other=models[1])
    with FaultyServer(repository, folder) as server:
        yield server


def infer(server: FaultyServer, patches: NDArray[np.float32] = PATCHES) -> NDArray[np.float32]:
    tensor = triton.InferInput("main_input", (*patches.shape, 1), "FP32")
    tensor.set_data_from_numpy(patches[..., None])
    with server.client() as client:
        answer = client.infer(NAME, [tensor], client_timeout=60)
    return np.hstack([answer.as_numpy("em_trk_none_netout"), answer.as_numpy("michel_netout")])


def local(model: Path) -> NDArray[np.float32]:
    return OnnxRuntimeBackend(model, threads=1).infer(PATCHES)


def test_it_takes_the_time_that_it_is_told_to_take(server: FaultyServer) -> None:
    before = server.scored
    server.repository.control(seconds_per_call=0.2, seconds_per_patch=0.02)
    start = time.monotonic()
    infer(server)
    assert time.monotonic() - start >= 0.4
    server.repository.control()
    # Triton counts a request after it has answered it.
    await_true(lambda: server.scored == before + len(PATCHES))
    assert server.pending == 0


def test_its_scores_change_in_mid_flight(server: FaultyServer, models: tuple[Path, Path]) -> None:
    server.load()
    server.repository.control(other_after=1)
    found = [infer(server) for _ in range(2)]
    server.repository.control()
    for scores, model in zip(found, models, strict=True):
        np.testing.assert_allclose(scores, local(model), rtol=0, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_its_model_is_replaced_unloaded_and_loaded(server: FaultyServer, models: tuple[Path, Path]) -> None:
    server.repository.replace(models[1])
    server.load()
    np.testing.assert_allclose(infer(server), local(models[1]), rtol=0, atol=1e-5)
    server.repository.replace(models[0])
    server.unload()
    with pytest.raises(InferenceServerException, match="unknown model"):
        infer(server)
    server.load()
    np.testing.assert_allclose(infer(server), local(models[0]), rtol=0, atol=1e-5)


def test_it_starts_again_where_it_was_killed_or_stopped(server: FaultyServer) -> None:
    for end in (server.kill, server.stop):
        end()
        with pytest.raises(InferenceServerException, match="connect"):
            infer(server)
        server.start()
        assert len(infer(server)) == len(PATCHES)


def test_it_speaks_tls_to_those_who_know_its_authority(tmp_path: Path, models: tuple[Path, Path]) -> None:
    certificate = ServerCertificate.make(tmp_path / "tls")
    stranger = ServerCertificate.make(tmp_path / "stranger")
    with FaultyServer(Repository(tmp_path / "r", models[0]), tmp_path, certificate=certificate) as server:
        assert len(infer(server)) == len(PATCHES)
        address = server.url.removeprefix("grpcs://")
        with (
            triton.InferenceServerClient(
                address, ssl=True, root_certificates=str(stranger.authority)
            ) as client,
            pytest.raises(InferenceServerException, match="CERTIFICATE_VERIFY_FAILED"),
        ):
            client.is_server_live(client_timeout=10)
