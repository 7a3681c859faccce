"""Whatever is wrong with an answer is found out before a score is used."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from integration.faults.corruptions import CORRUPTIONS, Corruption
from integration.faults.scripted_server import ScriptedServer
from integration.faults.token_gate import TokenGate
from integration.serving import sparse_patches
from protosonic.inference.dispatcher import Dispatcher
from protosonic.inference.endpoint_options import EndpointOptions
from protosonic.inference.failure_policy import Action, EndpointError, FailureClass
from protosonic.inference.golden import Reference
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.inference.triton_client import TritonClient

TOLERANCE = 1e-5
ROUNDS = 30


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model: its scores sum to one, and no two of its columns are alike."""
    from protosonic.inference.untrained import write_untrained_model

    path = tmp_path_factory.mktemp("fuzzed") / "model.onnx"
    write_untrained_model(path)
    return path


@pytest.fixture(scope="module")
def server(served: Path) -> Iterator[ScriptedServer]:
    with ScriptedServer(served) as server:
        yield server


@pytest.fixture(scope="module")
def cpu(served: Path) -> Iterator[OnnxRuntimeBackend]:
    backend = OnnxRuntimeBackend(served, threads=1)
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def reference(cpu: OnnxRuntimeBackend) -> Reference:
    return Reference(cpu.infer, TOLERANCE)


@pytest.fixture(scope="module")
def client(server: ScriptedServer) -> Iterator[TritonClient]:
    client = TritonClient(EndpointOptions(server.url, "emtrkmichel", "1", request_timeout_s=60))
    yield client
    client.close()


def scores_of(
    client: TritonClient, reference: Reference, patches: NDArray[np.float32]
) -> NDArray[np.float32]:
    answer = client.infer(client.prepare(reference.with_canaries(patches)))
    return reference.without_canaries(answer.scores, "test")


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda corruption: corruption.__name__)
def test_a_wrong_answer_is_an_error(
    server: ScriptedServer,
    client: TritonClient,
    reference: Reference,
    cpu: OnnxRuntimeBackend,
    corruption: Corruption,
) -> None:
    for seed in range(ROUNDS):
        numbers = random.Random(f"{corruption.__name__} {seed}")
        patches = sparse_patches(numbers.choice([1, 2, 7, 40]), seed)
        server.reply("ModelInfer", lambda answer, numbers=numbers: corruption(answer, numbers), times=1)
        with pytest.raises(EndpointError) as caught:
            scores_of(client, reference, patches)
        assert caught.value.failure is FailureClass.WRONG_ANSWER
        assert caught.value.action is Action.REFUSE
        assert server.url in str(caught.value) or "test" in str(caught.value)
    server.reply_rightly()
    np.testing.assert_allclose(
        scores_of(client, reference, patches), cpu.infer(patches), rtol=0, atol=TOLERANCE
    )


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda corruption: corruption.__name__)
def test_after_a_wrong_answer_the_cpu_scores_and_no_wrong_score_comes_out(
    server: ScriptedServer, served: Path, cpu: OnnxRuntimeBackend, corruption: Corruption
) -> None:
    numbers = random.Random(corruption.__name__)
    patches = sparse_patches(60, seed=5)
    options = EndpointOptions(server.url, "emtrkmichel", "1", request_bytes=12 * 9216, max_in_flight=1)
    dispatcher = Dispatcher("endpoint-first", [options], lambda: OnnxRuntimeBackend(served, threads=1))
    server.reply("ModelInfer", lambda answer: answer, times=3)  # the check, and two requests of ten
    server.reply("ModelInfer", lambda answer: corruption(answer, numbers))
    chunks = list(dispatcher.score([patches[:35], patches[35:]]))
    dispatcher.close()
    server.reply_rightly()
    scores = np.concatenate([scores for scores, _ in chunks])
    backends = np.concatenate([backends for _, backends in chunks]).tolist()
    np.testing.assert_allclose(scores, cpu.infer(patches), rtol=0, atol=TOLERANCE)
    assert backends == ["triton"] * 20 + ["onnxruntime"] * 40
    [fallback] = dispatcher.fallbacks
    assert server.url in fallback.reason
    [statistics] = dispatcher.statistics
    assert [fault.failure for fault in statistics.faults] == ["wrong-answer"]


def test_an_answer_that_is_cut_anywhere_is_an_error(server: ScriptedServer, reference: Reference) -> None:
    patches = sparse_patches(1)
    whole: list[bytes] = []
    with TokenGate(int(server.url.rpartition(":")[2]), token=None) as gate:
        client = TritonClient(EndpointOptions(gate.url, "emtrkmichel", "1", request_timeout_s=60))

        def note(answer: bytes) -> bytes:
            whole.append(answer)
            return answer

        gate.change = note
        scores_of(client, reference, patches)
        for length in range(len(whole[0])):
            gate.change = lambda answer, length=length: answer[:length]
            with pytest.raises(EndpointError):
                scores_of(client, reference, patches)
        client.close()


def test_an_answer_of_random_bytes_is_an_error(server: ScriptedServer, reference: Reference) -> None:
    numbers = random.Random(1)
    with TokenGate(int(server.url.rpartition(":")[2]), token=None) as gate:
        client = TritonClient(EndpointOptions(gate.url, "emtrkmichel", "1", request_timeout_s=60))
        for _ in range(100):
            gate.change = lambda answer: numbers.randbytes(numbers.randint(1, 2 * len(answer)))
            with pytest.raises(EndpointError):
                scores_of(client, reference, sparse_patches(3))
        client.close()


def test_another_version_with_the_right_scores_is_used_and_recorded(
    server: ScriptedServer, served: Path, cpu: OnnxRuntimeBackend
) -> None:
    def newer(answer: object) -> object:
        answer.model_version = "2"  # type: ignore[attr-defined]
        return answer

    patches = sparse_patches(60, seed=6)
    options = EndpointOptions(server.url, "emtrkmichel", "", request_bytes=12 * 9216, max_in_flight=1)
    dispatcher = Dispatcher("endpoint-only", [options], lambda: OnnxRuntimeBackend(served, threads=1))
    server.reply("ModelInfer", lambda answer: answer, times=3)
    server.reply("ModelInfer", newer)
    scores = np.concatenate([scores for scores, _ in dispatcher.score([patches])])
    dispatcher.close()
    server.reply_rightly()
    np.testing.assert_allclose(scores, cpu.infer(patches), rtol=0, atol=TOLERANCE)
    assert dispatcher.statistics[0].model_versions == ["1", "2"]


def test_no_call_is_ever_without_a_deadline(server: ScriptedServer) -> None:
    """Looks at every call that the tests before it have made as well."""
    assert {call.rpc for call in server.calls} >= {"ServerLive", "ModelReady", "ModelMetadata", "ModelInfer"}
    assert [call for call in server.calls if call.deadline_s is None] == []
