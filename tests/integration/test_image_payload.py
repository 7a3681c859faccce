"""The image form of a model at the real server, beside the form that takes patches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from integration.serving import await_true
from protosonic.errors import ServiceError
from protosonic.inference.contract import OUTPUTS, PATCH_BYTES, SCORE_NAMES, TensorSpec
from protosonic.inference.endpoint_options import IMAGE_SUFFIX
from protosonic.inference.golden import Reference
from protosonic.inference.image_payload import ImageHits, is_image_model
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.publish import sha256_of
from protosonic.serving.environment import find_or_create_environment
from protosonic.serving.image_model import INCONSISTENT
from protosonic.serving.repository import IMAGE_GROUPS, ServedModel, read_config, write_repository
from protosonic.serving.server import Ports, TritonServer, choose_ports
from support.image_hits import REAL_FILES, Plane, cut, gather, random_plane, real_events
from support.image_requests import Limits, requests_of

TIMEOUT_S = 300
NAME = "emtrkmichel"
IMAGE_NAME = NAME + IMAGE_SUFFIX
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, model: Path, linear_model: Path
) -> Iterator[TritonServer]:
    """Both forms of the network, and of the linear model with converted names as version 2."""
    folder = tmp_path_factory.mktemp("image")
    for version, file in (("1", model), ("2", linear_model)):
        served = ServedModel(NAME, version)
        write_repository(folder / "models", file, served)
        write_repository(folder / "models", file, served, payload="image")
    ports = choose_ports(Ports(0, 0, 0))
    with TritonServer(
        find_or_create_environment(), folder / "models", ports, folder / "server.log", ["--log-verbose=1"]
    ) as running:
        running.wait_until_ready()
        yield running


@pytest.fixture
def client(server: TritonServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.url.removeprefix("grpc://")) as client:
        yield client


@pytest.fixture(scope="module")
def reference(model: Path) -> Reference:
    return Reference(OnnxRuntimeBackend(model, threads=1).infer, 1e-5)


@pytest.fixture(scope="module")
def canaries(reference: Reference) -> NDArray[np.float32]:
    return reference.with_canaries(np.empty((0, 48, 48), np.float32))


def given(tensors: Mapping[str, NDArray[Any]]) -> list[triton.InferInput]:
    inputs = []
    for name, values in tensors.items():
        inputs.append(triton.InferInput(name, values.shape, np_to_triton_dtype(values.dtype)))
        inputs[-1].set_data_from_numpy(values)
    return inputs


def infer(
    client: triton.InferenceServerClient, name: str, tensors: Mapping[str, NDArray[Any]], version: str = "1"
) -> NDArray[np.float32]:
    answer = client.infer(name, given(tensors), model_version=version, client_timeout=TIMEOUT_S)
    return np.hstack([answer.as_numpy(output) for output in OUTPUTS])


def patch_scores(
    client: triton.InferenceServerClient, patches: NDArray[np.float32], version: str = "1"
) -> NDArray[np.float32]:
    return np.concatenate(
        [
            infer(client, NAME, {"main_input": patches[first : first + 512, ..., None]}, version)
            for first in range(0, len(patches), 512)
        ]
    )


def image_scores(
    client: triton.InferenceServerClient,
    hits: ImageHits,
    limits: Limits,
    canaries: NDArray[np.float32],
    version: str = "1",
) -> NDArray[np.float32]:
    scores = np.full((len(hits), len(SCORE_NAMES)), np.nan, np.float32)
    for part, request in requests_of(hits, limits, canaries):
        scores[part.index] = infer(client, IMAGE_NAME, request.tensors, version)[1:-1]
    return scores


def random_planes() -> list[Plane]:
    return [random_plane(1, (300, 200), 150), random_plane(2, (60, 400), 60)]


@pytest.mark.parametrize("most", [1, 3, 127, 1000])
@pytest.mark.parametrize("version", ["1", "2"])
def test_scores_equal_those_of_patches_at_every_size(
    client: triton.InferenceServerClient, canaries: NDArray[np.float32], most: int, version: str
) -> None:
    planes = random_planes()
    found = image_scores(client, gather(planes), Limits(most), canaries, version)
    np.testing.assert_allclose(found, patch_scores(client, cut(planes), version), rtol=0, atol=TOLERANCE)
    assert np.ptp(found, axis=0).max() > 100 * TOLERANCE


def test_canaries_and_the_golden_batch_have_the_scores_of_the_local_model(
    client: triton.InferenceServerClient, reference: Reference, canaries: NDArray[np.float32]
) -> None:
    scores = infer(client, IMAGE_NAME, gather(random_planes()).encode(canaries).tensors)
    assert len(reference.without_canaries(scores, "the server")) == 210
    golden = ImageHits.of_patches(reference.patches).encode().tensors
    deviation = reference.check(infer(client, IMAGE_NAME, golden), "the server")
    assert deviation is not None
    assert deviation <= TOLERANCE


def test_clients_can_tell_the_forms_apart(client: triton.InferenceServerClient) -> None:
    def inputs(name: str) -> list[TensorSpec]:
        metadata = client.get_model_metadata(name, "1", client_timeout=TIMEOUT_S)
        return [
            TensorSpec(tensor.name, tensor.datatype, tuple(n if n >= 0 else None for n in tensor.shape))
            for tensor in metadata.inputs
        ]

    assert is_image_model(inputs(IMAGE_NAME))
    assert not is_image_model(inputs(NAME))


def test_the_server_reads_the_configuration_as_it_was_meant(
    client: triton.InferenceServerClient, model: Path, linear_model: Path
) -> None:
    config = client.get_model_config(IMAGE_NAME, client_timeout=TIMEOUT_S).config
    assert config.max_batch_size == 0
    assert list(config.version_policy.specific.versions) == [1, 2]
    assert config.parameters["group"].string_value == str(IMAGE_GROUPS["python"])
    assert config.parameters["model_sha256_1"].string_value == sha256_of(model)
    assert config.parameters["model_sha256_2"].string_value == sha256_of(linear_model)


def test_the_warm_up_is_over_when_the_model_is_ready(
    server: TritonServer, client: triton.InferenceServerClient
) -> None:
    log = server.log_file.read_text()
    for sample in ("one hit", "a whole group"):
        assert log.count(f"is running warmup sample '{sample}'") == 2
    assert "failed to run warmup" not in log


@pytest.mark.parametrize(
    "wrong",
    [
        {"run_gap": np.array([65535, 65535], np.uint16)},
        {"pixel_value": np.ones(5, np.float32)},
        {"columns": np.array([2**31 - 1], np.int32)},
        {"hit_gap": np.array([0, 60, 13], np.uint16)},
        {"hit_gap": np.full(300, 65535, np.uint16)},
    ],
)
def test_an_unsound_request_is_refused_and_the_server_goes_on(
    client: triton.InferenceServerClient, wrong: dict[str, NDArray[Any]]
) -> None:
    sound: dict[str, NDArray[Any]] = {
        "run_gap": np.array([5, 10], np.uint16),
        "run_length": np.array([0, 2], np.uint8),
        "pixel_value": np.ones(4, np.float32),
        "hit_gap": np.array([0, 60, 12], np.uint16),
        "columns": np.array([120], np.int32),
        "background": np.zeros(1, np.float32),
    }
    before = infer(client, IMAGE_NAME, sound)
    with pytest.raises(InferenceServerException, match=INCONSISTENT):
        infer(client, IMAGE_NAME, sound | wrong)
    np.testing.assert_array_equal(infer(client, IMAGE_NAME, sound), before)


def answers(
    client: triton.InferenceServerClient, requests: Sequence[Mapping[str, NDArray[Any]]], version: str
) -> dict[int, triton.InferResult | InferenceServerException]:
    outcomes: dict[int, triton.InferResult | InferenceServerException] = {}

    def answered(index: int, result: triton.InferResult | None, error: Exception | None) -> None:
        outcomes[index] = error or result

    for index, tensors in enumerate(requests):
        client.async_infer(
            IMAGE_NAME,
            given(tensors),
            partial(answered, index),
            model_version=version,
            client_timeout=TIMEOUT_S,
        )
    await_true(lambda: len(outcomes) == len(requests))
    return outcomes


def test_requests_at_the_same_time_each_get_their_own_scores(client: triton.InferenceServerClient) -> None:
    hits = gather(random_planes())
    parts = [hits[:1], hits[:50], hits[50:], hits[100:103]]
    requests = [part.encode().tensors for part in parts]
    outcomes = answers(client, requests, "2")
    for index, tensors in enumerate(requests):
        np.testing.assert_array_equal(
            np.hstack([outcomes[index].as_numpy(output) for output in OUTPUTS]),
            infer(client, IMAGE_NAME, tensors, "2"),
        )


def test_requests_that_wait_are_begun_as_soon_as_the_instance_is_free(
    client: triton.InferenceServerClient,
) -> None:
    """With a queue policy Triton's batcher sleeps for half a second now and then."""
    tensors = ImageHits.of_patches(cut(random_planes())[:20]).encode().tensors
    for _ in range(10):
        answered = answers(client, [tensors] * 6, "1").values()
        assert not [outcome for outcome in answered if isinstance(outcome, InferenceServerException)]
    statistics = client.get_inference_statistics(IMAGE_NAME, "1", client_timeout=TIMEOUT_S).model_stats[0]
    waited_ns = statistics.inference_stats.queue.ns
    worked_ns = statistics.inference_stats.compute_infer.ns
    # Five others are before the last of six: the mean wait is two and a half times the work.
    assert waited_ns < 10 * worked_ns


@pytest.mark.realdata
@pytest.mark.parametrize("name", REAL_FILES)
@pytest.mark.parametrize("most", [100, 4096])
def test_every_hit_of_real_files_has_the_score_of_its_patch(
    client: triton.InferenceServerClient,
    realdata: Path,
    canaries: NDArray[np.float32],
    name: str,
    most: int,
) -> None:
    """At most 1,500 hits of each plane, of all events at once."""
    planes = [
        plane._replace(wire=plane.wire[:1500], drift_bin=plane.drift_bin[:1500])
        for event in real_events(realdata, name)
        for plane in event
    ]
    found = image_scores(client, gather(planes), Limits(most), canaries, "2")
    assert len(found) > 500
    np.testing.assert_allclose(found, patch_scores(client, cut(planes), "2"), rtol=0, atol=TOLERANCE)


@pytest.mark.realdata
def test_a_real_event_has_the_scores_of_its_patches_for_a_two_hundredth_of_the_bytes(
    client: triton.InferenceServerClient, realdata: Path, canaries: NDArray[np.float32]
) -> None:
    """The linear model scores every hit; the network those of one plane."""
    [planes] = real_events(realdata, "hd")
    found = image_scores(client, gather(planes), Limits(), canaries, "2")
    np.testing.assert_allclose(found, patch_scores(client, cut(planes), "2"), rtol=0, atol=TOLERANCE)
    n_bytes = sum(request.n_bytes for _, request in requests_of(gather(planes), Limits(), canaries))
    assert 200 * n_bytes <= len(found) * PATCH_BYTES
    plane = [planes[-1]._replace(wire=planes[-1].wire[:1000], drift_bin=planes[-1].drift_bin[:1000])]
    np.testing.assert_allclose(
        image_scores(client, gather(plane), Limits(), canaries),
        patch_scores(client, cut(plane)),
        rtol=0,
        atol=TOLERANCE,
    )


def test_the_form_for_production_differs_in_the_backend_only(tmp_path: Path, linear_model: Path) -> None:
    served = ServedModel(NAME, "7", instances=2, max_queue_size=64, queue_timeout_s=2.5)
    folder = write_repository(tmp_path, linear_model, served, "onnxruntime", payload="image")
    config = read_config(folder / "config.pbtxt")
    other = read_config(
        write_repository(tmp_path / "other", linear_model, served, payload="image") / "config.pbtxt"
    )
    assert (config.name, config.backend, config.max_batch_size) == (IMAGE_NAME, "onnxruntime", 0)
    assert (config.input, config.output) == (other.input, other.output)
    assert not config.HasField("dynamic_batching")
    assert not other.HasField("dynamic_batching")
    [accelerator] = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert dict(accelerator.parameters) == {"use_tf32": "0"}
    assert config.parameters["group"].string_value == str(IMAGE_GROUPS["onnxruntime"])
    assert sorted(path.name for path in (folder / "7").iterdir()) == ["model.onnx"]


def test_the_server_reads_the_form_for_production_and_only_misses_the_backend(
    tmp_path: Path, linear_model: Path
) -> None:
    """The server of PyPI has no ONNX Runtime backend; its core reads the configuration all the same."""
    write_repository(tmp_path / "models", linear_model, ServedModel(), "onnxruntime", payload="image")
    environment, ports = find_or_create_environment(), choose_ports(Ports(0, 0, 0))
    with (
        TritonServer(environment, tmp_path / "models", ports, tmp_path / "server.log") as server,
        pytest.raises(ServiceError, match="unable to find backend library for backend 'onnxruntime'"),
    ):
        server.wait_until_ready()
