"""What the real server answers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from integration.serving import ServeProcess, await_true, settings, sparse_patches
from protosonic.inference.dispatcher import Dispatcher
from protosonic.inference.endpoint_options import EndpointOptions
from protosonic.inference.failure_policy import EndpointError, FailureClass
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.inference.triton_client import TritonClient
from protosonic.publish import sha256_of
from protosonic.stages.infer import make_dispatcher
from support.scoring import score_batch

TOLERANCE = 1e-5


@pytest.mark.parametrize("n", [1, 7, 256, 1500])
def test_scores_equal_those_of_the_cpu_at_every_batch_size(serve: ServeProcess, model: Path, n: int) -> None:
    patches = sparse_patches(n, seed=n)
    cpu = OnnxRuntimeBackend(model, threads=1)
    dispatcher = Dispatcher("endpoint-only", [EndpointOptions(serve.url)], lambda: cpu)
    served = np.concatenate([scores for scores, _ in dispatcher.score([patches])])
    np.testing.assert_allclose(served, cpu.infer(patches), rtol=0, atol=TOLERANCE)
    assert np.ptp(served, axis=0).max() > 100 * TOLERANCE or n == 1
    dispatcher.close()
    [statistics] = dispatcher.statistics
    assert statistics.model_versions == ["1"]
    assert statistics.requests == statistics.answers == -(-n // 510)
    assert statistics.bytes_sent == (n + 2 * statistics.requests) * 48 * 48 * 4


def test_a_model_with_converted_tensor_names_is_served_under_those_of_the_contract(
    odd_server: str, linear_model: Path
) -> None:
    patches = sparse_patches(5)
    endpoint = TritonClient(EndpointOptions(odd_server, "suffixed", "3"))
    endpoint.read_tensors()
    scores = endpoint.infer(endpoint.prepare(patches)).scores
    endpoint.close()
    np.testing.assert_allclose(
        scores, OnnxRuntimeBackend(linear_model, threads=1).infer(patches), rtol=0, atol=TOLERANCE
    )
    with triton.InferenceServerClient(odd_server.removeprefix("grpc://")) as client:
        metadata = client.get_model_metadata("suffixed", "3", client_timeout=30)
    assert [tensor.name for tensor in metadata.inputs] == ["main_input"]
    assert [tensor.name for tensor in metadata.outputs] == ["em_trk_none_netout", "michel_netout"]


def test_the_server_reads_the_configuration_as_it_was_meant(odd_server: str, linear_model: Path) -> None:
    with triton.InferenceServerClient(odd_server.removeprefix("grpc://")) as client:
        config = client.get_model_config("suffixed", client_timeout=30).config
    assert config.max_batch_size == 500
    assert config.HasField("dynamic_batching")
    [group] = config.instance_group
    assert (group.count, group.kind) == (2, group.KIND_CPU)
    assert config.parameters["model_sha256_3"].string_value == sha256_of(linear_model)


def test_requests_of_several_clients_at_once_each_get_their_own_scores(
    odd_server: str, linear_model: Path
) -> None:
    """Waiting requests are scored together by the server and must be told apart again."""
    requests = [sparse_patches(n, seed=n) for n in (3, 1, 130, 2, 300)] * 8
    answers: dict[int, triton.InferResult | Exception] = {}

    def answered(index: int, result: triton.InferResult | None, error: Exception | None) -> None:
        answers[index] = error or result

    with triton.InferenceServerClient(odd_server.removeprefix("grpc://")) as client:
        for index, patches in enumerate(requests):
            tensor = triton.InferInput("main_input", (*patches.shape, 1), "FP32")
            tensor.set_data_from_numpy(patches[..., None])
            client.async_infer("suffixed", [tensor], partial(answered, index), client_timeout=60)
        await_true(lambda: len(answers) == len(requests))
    cpu = OnnxRuntimeBackend(linear_model, threads=1)
    for index, patches in enumerate(requests):
        found = answers[index].as_numpy("em_trk_none_netout")
        np.testing.assert_allclose(found, cpu.infer(patches)[:, :3], rtol=0, atol=TOLERANCE)


def test_a_model_that_declares_other_tensors_is_refused(odd_server: str) -> None:
    endpoint = TritonClient(EndpointOptions(odd_server, "wide", "1"))
    with pytest.raises(EndpointError, match=r"does not meet the contract.*em_trk_none_netout FP32") as caught:
        endpoint.read_tensors()
    endpoint.close()
    assert caught.value.failure is FailureClass.WRONG_MODEL
    assert odd_server in str(caught.value)


@pytest.mark.parametrize(("name", "reason"), [("lying", r"found float32 \[5, 4\]"), ("nan", "not finite")])
def test_a_model_that_answers_otherwise_than_it_declares_is_refused(
    odd_server: str, name: str, reason: str
) -> None:
    endpoint = TritonClient(EndpointOptions(odd_server, name, "1"))
    endpoint.read_tensors()
    with pytest.raises(EndpointError, match=reason) as caught:
        endpoint.infer(endpoint.prepare(sparse_patches(5)))
    endpoint.close()
    assert caught.value.failure is FailureClass.WRONG_ANSWER


@pytest.mark.parametrize("name", ["wide", "lying", "nan"])
def test_after_a_refused_model_the_cpu_scores_everything(odd_server: str, model: Path, name: str) -> None:
    patches = sparse_patches(5)
    dispatcher = make_dispatcher(settings(odd_server, name=name), model, threads=1)
    scores, backend = score_batch(dispatcher, patches)
    dispatcher.close()
    assert backend == "onnxruntime"
    expected = OnnxRuntimeBackend(model, threads=1).infer(patches)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=TOLERANCE)
    assert [odd_server in fallback.reason for fallback in dispatcher.fallbacks] == [True]
