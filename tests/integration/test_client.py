"""The client library at the real server."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from integration.serving import ServeProcess, sparse_patches
from protosonic.errors import ServiceError
from protosonic.inference import Client, EndpointOptions
from protosonic.inference.failure_policy import EndpointError, FailureClass
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from support.clients import run_example

TOLERANCE = 1e-5


def test_the_example_of_the_documentation_runs(serve: ServeProcess, model: Path, tmp_path: Path) -> None:
    output = run_example(tmp_path, serve.url, model)
    assert output.startswith("version 1, scores within ")
    assert "mean michel score" in output
    assert "0 retries" in output


@pytest.mark.parametrize("with_model", [True, False])
def test_scores_are_those_of_the_cpu(serve: ServeProcess, model: Path, with_model: bool) -> None:
    cpu = OnnxRuntimeBackend(model, threads=1)
    batches = [sparse_patches(n, seed=n) for n in (1, 300, 0, 1100, 40)]
    with Client(EndpointOptions(serve.url, version="1"), model if with_model else None) as client:
        pending = [client.send(client.prepare(batch)) for batch in batches[:2]]
        found = [one.retrieve() for one in pending]
        found += client.stream(batches[2:])
        statistics = client.statistics
    for scores, batch in zip(found, batches, strict=True):
        np.testing.assert_allclose(scores, cpu.infer(batch), rtol=0, atol=TOLERANCE)
    assert statistics.patches == sum(map(len, batches))
    assert statistics.model_versions == ["1"]
    assert (statistics.deviation is not None) == with_model


def test_a_description_is_that_of_the_served_model(serve: ServeProcess, model: Path) -> None:
    with Client(EndpointOptions(serve.url), model) as client:
        served = client.describe()
    assert served.version == "1"
    assert served.max_batch_size >= 256
    assert served.deviation is not None
    assert served.deviation <= TOLERANCE


def test_another_model_than_the_local_one_gets_no_work(serve: ServeProcess, linear_model: Path) -> None:
    with Client(EndpointOptions(serve.url), linear_model) as client:
        with pytest.raises(EndpointError) as caught:
            client.describe()
        assert caught.value.failure is FailureClass.WRONG_MODEL
        with pytest.raises(ServiceError, match="not those of the local model"):
            client.infer(sparse_patches(3))


def test_a_name_that_is_not_served_is_named(serve: ServeProcess, model: Path) -> None:
    with (
        Client(EndpointOptions(serve.url, model="muons"), model) as client,
        pytest.raises(ServiceError, match="model muons"),
    ):
        client.infer(sparse_patches(3))


def test_clients_of_several_threads_are_served_side_by_side(serve: ServeProcess, model: Path) -> None:
    cpu = OnnxRuntimeBackend(model, threads=1)
    worst: list[float] = []

    def use(seed: int) -> None:
        patches = sparse_patches(200, seed)
        with Client(EndpointOptions(serve.url), model) as client:
            scores = np.concatenate(list(client.stream(np.split(patches, 8))))
        worst.append(float(np.abs(scores - cpu.infer(patches)).max()))

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(worst) == 4
    assert max(worst) <= TOLERANCE
