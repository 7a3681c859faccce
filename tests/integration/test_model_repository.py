"""``protosonic model repository``, and what the real server makes of it (in the form that it can load)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from integration.serving import await_true, sparse_patches
from protosonic.errors import ConfigError, ServiceError
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.serving.environment import find_or_create_environment
from protosonic.serving.repository import read_config
from protosonic.serving.server import Ports, TritonServer, choose_ports
from support.campaign import protosonic
from support.models import linear_weights, write_linear_model

TIMEOUT_S = 60
NAME = "emtrkmichel"


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory, linear_model: Path, model: Path) -> dict[str, Path]:
    """Three files under one name; the second is slow, because it is the real network."""
    other = write_linear_model(tmp_path_factory.mktemp("other") / "other.onnx", linear_weights(seed=5))
    return {"1": linear_model, "2": model, "3": other}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, versions: dict[str, Path]) -> Iterator[TritonServer]:
    folder = tmp_path_factory.mktemp("repository")
    options = ["--form", "python", "--max-queue-size", "4", "--queue-timeout", "30"]
    for version, path in versions.items():
        arguments = ["--model", str(path), "--version", version, *options]
        printed = protosonic("model", "repository", str(folder / "models"), *arguments)
        models = [str(folder / "models" / name) for name in (NAME, f"{NAME}_image")]
        assert printed.splitlines()[-2:] == models, printed
    (folder / "models" / NAME / "4").mkdir()  # a version that is copied in by hand is not served
    ports = choose_ports(Ports(0, 0, 0))
    environment, log = find_or_create_environment(), folder / "server.log"
    with TritonServer(environment, folder / "models", ports, log, ["--log-verbose=1"]) as running:
        running.wait_until_ready()
        yield running


@pytest.fixture
def client(server: TritonServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.url.removeprefix("grpc://")) as client:
        yield client


def tensor(patches: NDArray[np.float32]) -> triton.InferInput:
    given = triton.InferInput("main_input", (*patches.shape, 1), "FP32")
    given.set_data_from_numpy(patches[..., None])
    return given


def test_the_form_for_production_is_the_default(tmp_path: Path) -> None:
    printed = protosonic("model", "repository", str(tmp_path))
    folder = Path(printed.splitlines()[-1])
    assert read_config(folder / "config.pbtxt").backend == "onnxruntime"
    assert "untrained" not in printed


def test_an_unknown_form_is_refused(tmp_path: Path) -> None:
    output = protosonic(
        "model", "repository", str(tmp_path), "--form", "tensorrt", expect=ConfigError.exit_code
    )
    assert "onnxruntime, python" in output


@pytest.mark.parametrize("version", ["1", "2", "3"])
def test_every_version_gives_its_own_scores(
    client: triton.InferenceServerClient, versions: dict[str, Path], version: str
) -> None:
    patches = sparse_patches(5)
    answer = client.infer(NAME, [tensor(patches)], model_version=version, client_timeout=TIMEOUT_S)
    expected = OnnxRuntimeBackend(versions[version], threads=1).infer(patches)
    found = np.hstack([answer.as_numpy("em_trk_none_netout"), answer.as_numpy("michel_netout")])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert answer.get_response().model_version == version


def test_only_the_listed_versions_are_served(client: triton.InferenceServerClient) -> None:
    index = client.get_model_repository_index(client_timeout=TIMEOUT_S)
    assert sorted((model.name, model.version, model.state) for model in index.models) == [
        (name, version, "READY") for name in (NAME, f"{NAME}_image") for version in ("1", "2", "3")
    ]
    with pytest.raises(InferenceServerException, match="is not found"):
        client.infer(NAME, [tensor(sparse_patches(1))], model_version="4", client_timeout=TIMEOUT_S)


def test_the_classes_have_their_names(client: triton.InferenceServerClient) -> None:
    outputs = [
        triton.InferRequestedOutput("em_trk_none_netout", class_count=3),
        triton.InferRequestedOutput("michel_netout", class_count=1),
    ]
    answer = client.infer(
        NAME, [tensor(sparse_patches(1))], model_version="3", outputs=outputs, client_timeout=TIMEOUT_S
    )
    labels = {
        name: {cell.decode().split(":")[1:][-1] for cell in answer.as_numpy(name).ravel()}
        for name in ("em_trk_none_netout", "michel_netout")
    }
    assert labels == {"em_trk_none_netout": {"track", "em", "none"}, "michel_netout": {"michel"}}


def test_the_warm_up_is_over_when_the_model_is_ready(
    server: TritonServer, client: triton.InferenceServerClient
) -> None:
    """The server makes a request of every patch of it, and counts them: only differences of its counts say anything."""

    def counted() -> int:
        [statistics] = client.get_inference_statistics(NAME, "3", client_timeout=TIMEOUT_S).model_stats
        return int(statistics.inference_stats.success.count)

    before = counted()
    assert before >= 1 + 2048
    client.infer(NAME, [tensor(sparse_patches(5))], model_version="3", client_timeout=TIMEOUT_S)
    assert counted() == before + 1
    assert server.log_file.read_text().count("is running warmup sample 'largest batch'") >= 3


def test_a_full_queue_turns_requests_away_at_once_and_the_rest_is_answered(
    client: triton.InferenceServerClient,
) -> None:
    """The queue holds four; what an instance works on is not in it."""
    outcomes: list[triton.InferResult | InferenceServerException] = []

    def answered(result: triton.InferResult | None, error: InferenceServerException | None) -> None:
        outcomes.append(error or result)

    given = tensor(sparse_patches(1024))
    for _ in range(16):
        client.async_infer(NAME, [given], partial(answered), model_version="2", client_timeout=TIMEOUT_S)
    await_true(lambda: len(outcomes) == 16)
    refused = [outcome for outcome in outcomes if isinstance(outcome, InferenceServerException)]
    assert {outcome.status() for outcome in refused} == {"StatusCode.UNAVAILABLE"}
    assert all("maximum queue size" in outcome.message() for outcome in refused)
    assert 4 <= 16 - len(refused) < 16
    # The refusals come before the answers: nobody waits in vain.
    assert all(isinstance(outcome, triton.InferResult) for outcome in outcomes[-4:])


def test_a_client_may_ask_for_a_shorter_stay_in_the_queue(client: triton.InferenceServerClient) -> None:
    outcomes: dict[int, triton.InferResult | InferenceServerException] = {}

    def answered(index: int, result: triton.InferResult | None, error: Exception | None) -> None:
        outcomes[index] = error or result

    given = tensor(sparse_patches(2048))
    for index, timeout in enumerate((None, None, 1000)):  # microseconds
        client.async_infer(
            NAME,
            [given],
            partial(answered, index),
            model_version="2",
            client_timeout=TIMEOUT_S,
            timeout=timeout,
        )
    await_true(lambda: len(outcomes) == 3)
    assert isinstance(outcomes[0], triton.InferResult)
    assert isinstance(outcomes[2], InferenceServerException)
    assert "timeout expired" in outcomes[2].message()


def start_with(folder: Path, text: str) -> str:
    """Start the server with the form for production, its configuration longer by a text; gives why it ended."""
    protosonic("model", "repository", str(folder / "models"), "--payload", "patches")
    config = folder / "models" / NAME / "config.pbtxt"
    config.write_text(config.read_text() + text)
    environment, ports = find_or_create_environment(), choose_ports(Ports(0, 0, 0))
    with (
        TritonServer(environment, folder / "models", ports, folder / "server.log") as server,
        pytest.raises(ServiceError) as caught,
    ):
        server.wait_until_ready()
    return str(caught.value)


def test_the_server_reads_the_form_for_production_and_only_misses_the_backend(tmp_path: Path) -> None:
    """The server of PyPI has no ONNX Runtime backend; its core reads the configuration all the same."""
    reason = start_with(tmp_path, "")
    assert "unable to find backend library for backend 'onnxruntime'" in reason


def test_a_configuration_that_the_server_cannot_read_ends_otherwise(tmp_path: Path) -> None:
    assert "backend library" not in start_with(tmp_path, "zebra: 1\n")
