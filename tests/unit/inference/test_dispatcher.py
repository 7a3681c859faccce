"""Every hit is scored once, whatever the endpoints do: against servers that answer as a script says."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from integration.faults.scripted_server import Failure, Reply, ScriptedServer
from protosonic.errors import ConfigError, ModelError, ServiceError
from protosonic.inference import endpoint_lane
from protosonic.inference.dispatcher import Dispatcher, Policy
from protosonic.inference.endpoint_options import EndpointOptions
from protosonic.inference.hits import HitBatch
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from support.models import linear_weights, write_linear_model

Patches = NDArray[np.float32]
SIZE = 8
"""Patches per batch and request."""
NOBODY = "grpc://127.0.0.1:1"
GONE = Failure(grpc.StatusCode.UNAVAILABLE, "Socket closed")
FULL = Failure(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
BROKEN = Failure(grpc.StatusCode.INTERNAL, "the backend failed")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_linear_model(tmp_path_factory.mktemp("model") / "linear.onnx", linear_weights())


@pytest.fixture
def server(model: Path) -> Iterator[ScriptedServer]:
    with ScriptedServer(model) as scripted:
        yield scripted


@pytest.fixture(autouse=True)
def fast_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes and further tries come after milliseconds."""
    monkeypatch.setattr(endpoint_lane, "full_jitter", lambda *_, random: random.uniform(0, 0.005))
    monkeypatch.setattr(endpoint_lane, "FIRST_LATENCY_S", 0.005)
    breaker = endpoint_lane.CircuitBreaker
    monkeypatch.setattr(
        endpoint_lane,
        "CircuitBreaker",
        lambda **options: breaker(cool_down_s=0.02, longest_cool_down_s=0.1, **options),
    )


class Cpu:
    """The local model, with a count and where wanted a gate."""

    name = "onnxruntime"
    batch_size = 4

    def __init__(self, model: Path, concurrency: int = 1) -> None:
        self.concurrency = concurrency
        self.patches = 0
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.before: Callable[[Patches], object] = lambda _: None
        self._model = OnnxRuntimeBackend(model, threads=1)

    def infer(self, patches: Patches) -> Patches:
        if len(patches) != 16:  # the golden batch is scored before any work
            self.gate.wait(60)
            self.before(patches)
            if self.error is not None:
                raise self.error
            self.patches += len(patches)
        return self._model.infer(patches)

    def score(self, hits: HitBatch) -> Patches:
        return self.infer(hits.patches())

    def close(self) -> None:
        """Nothing: tests use it in several dispatchers, one after the other."""


@pytest.fixture
def cpu(model: Path) -> Cpu:
    return Cpu(model)


def options(url: str, **changes: Any) -> EndpointOptions:
    return EndpointOptions(url, request_bytes=(SIZE + 2) * 9216, connect_timeout_s=20.0, **changes)


def patches(n: int) -> Patches:
    return np.random.default_rng(n).normal(0, 3, (n, 48, 48)).astype(np.float32)


def batches(all_patches: Patches, size: int = SIZE) -> Iterator[Patches]:
    for first in range(0, len(all_patches), size):
        yield all_patches[first : first + size]


def score(dispatcher: Dispatcher, all_patches: Patches, size: int = SIZE) -> list[str]:
    """Score patches, prove that all scores are right and in order, and return the backend of each."""
    chunks = list(dispatcher.score(batches(all_patches, size)))
    scores = np.concatenate([scores for scores, _ in chunks])
    weights = linear_weights().reshape(4, -1)
    np.testing.assert_allclose(scores, 0.5 + all_patches.reshape(len(scores), -1) @ weights.T, atol=1e-5)
    return [name for _, names in chunks for name in names]


def after_check(server: ScriptedServer, reply: Reply, times: int) -> None:
    """Answer so, but not the check at the beginning."""
    server.reply("ModelInfer", lambda answer: answer, times=1)
    server.reply("ModelInfer", reply, times=times)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "this takes for ever"
        time.sleep(0.002)


@pytest.mark.parametrize(
    ("policy", "serves", "expected"),
    [
        ("endpoint-first", True, {"triton"}),
        ("endpoint-first", False, {"onnxruntime"}),
        ("endpoint-only", True, {"triton"}),
        ("cpu-only", True, {"onnxruntime"}),
    ],
)
def test_the_policy_chooses_the_backend(
    server: ScriptedServer, cpu: Cpu, policy: Policy, serves: bool, expected: set[str]
) -> None:
    dispatcher = Dispatcher(policy, [options(server.url if serves else NOBODY)], lambda: cpu)
    assert set(score(dispatcher, patches(50))) == expected
    dispatcher.close()
    assert bool(dispatcher.fallbacks) == (not serves)
    assert bool(server.calls) == (expected == {"triton"})


@pytest.mark.parametrize("policy", ["endpoint-first", "endpoint-only", "cooperative"])
def test_a_policy_that_needs_an_endpoint_refuses_to_be_without(policy: Policy, cpu: Cpu) -> None:
    with pytest.raises(ConfigError, match=policy):
        Dispatcher(policy, [], lambda: cpu)


def test_endpoint_only_without_a_server_says_what_failed(cpu: Cpu) -> None:
    dispatcher = Dispatcher("endpoint-only", [options(NOBODY)], lambda: cpu)
    with pytest.raises(ServiceError, match="endpoint-only forbids the CPU") as caught:
        score(dispatcher, patches(5))
    dispatcher.close()
    assert NOBODY in str(caught.value)
    assert "UNAVAILABLE" in str(caught.value)
    assert cpu.patches == 0


def test_an_outage_is_reported_of_the_configured_model(cpu: Cpu) -> None:
    endpoint = replace(options(NOBODY), payload="auto")
    dispatcher = Dispatcher("endpoint-first", [endpoint], lambda: cpu)
    score(dispatcher, patches(5))
    dispatcher.close()
    reasons = [fallback.reason for fallback in dispatcher.fallbacks]
    assert reasons
    assert all(reason.startswith(f"{endpoint}: ") for reason in reasons)


@pytest.mark.parametrize("policy", ["endpoint-only", "cpu-only"])
def test_nothing_and_empty_batches_are_scored(server: ScriptedServer, cpu: Cpu, policy: Policy) -> None:
    dispatcher = Dispatcher(policy, [options(server.url)], lambda: cpu)
    assert list(dispatcher.score([])) == []
    assert list(dispatcher.score([patches(3)[:0]])) == []
    assert len(score(dispatcher, patches(3))) == 3
    dispatcher.close()


@pytest.mark.parametrize("size", [1, 7, 8, 100])
def test_batches_of_any_size_are_cut_into_requests_that_are_not_too_large(
    server: ScriptedServer, cpu: Cpu, size: int
) -> None:
    dispatcher = Dispatcher("endpoint-only", [options(server.url)], lambda: cpu)
    score(dispatcher, patches(100), size)
    dispatcher.close()
    sent = [call.patches for call in server.received("ModelInfer")][1:]
    assert max(sent) == min(size, SIZE) + 2
    assert sum(sent) == 100 + 2 * len(sent)


def test_the_servers_largest_batch_is_kept(model: Path, cpu: Cpu) -> None:
    with ScriptedServer(model, max_batch_size=5) as server:
        dispatcher = Dispatcher("endpoint-only", [options(server.url)], lambda: cpu)
        score(dispatcher, patches(20))
        dispatcher.close()
    assert max(call.patches for call in server.received("ModelInfer")) == 5


def test_a_server_whose_largest_batch_has_no_room_for_canaries_is_refused(model: Path, cpu: Cpu) -> None:
    with ScriptedServer(model, max_batch_size=2) as server:
        dispatcher = Dispatcher("endpoint-first", [options(server.url)], lambda: cpu)
        assert set(score(dispatcher, patches(20))) == {"onnxruntime"}
        dispatcher.close()
    assert "max_batch_size of at least 3" in dispatcher.fallbacks[0].reason


def test_what_is_held_is_bounded(server: ScriptedServer, cpu: Cpu) -> None:
    gate = threading.Event()

    def held(answer: Any) -> Any:
        gate.wait(60)
        return answer

    after_check(server, held, 100)
    made: list[int] = []

    def made_batches() -> Iterator[Patches]:
        for batch in batches(patches(800)):
            made.append(len(batch))
            yield batch

    dispatcher = Dispatcher("endpoint-only", [options(server.url, max_in_flight=3)], lambda: cpu)
    consumer = threading.Thread(target=lambda: list(dispatcher.score(made_batches())))
    consumer.start()
    wait_for(lambda: len(server.received("ModelInfer")) == 2)
    wait_for(lambda: len(made) >= 3)
    assert sum(made) <= 3 * SIZE + 2 * cpu.batch_size + 2 * SIZE
    gate.set()
    consumer.join()
    dispatcher.close()
    assert sum(made) == 800


def test_overload_is_waited_for_and_is_no_reason_to_use_the_cpu(server: ScriptedServer, cpu: Cpu) -> None:
    after_check(server, FULL, 5)
    dispatcher = Dispatcher("endpoint-first", [options(server.url)], lambda: cpu)
    assert set(score(dispatcher, patches(40))) == {"triton"}
    dispatcher.close()
    [statistics] = dispatcher.statistics
    assert statistics.retries == {"overload": 5}
    assert statistics.n_faults == 5
    assert statistics.departures == 0
    assert dispatcher.fallbacks == []
    assert cpu.patches == 0


def test_a_busy_site_that_turns_clients_away_is_waited_for(server: ScriptedServer, cpu: Cpu) -> None:
    server.reply("RepositoryIndex", Failure(grpc.StatusCode.CANCELLED, "over the threshold"), times=2)
    dispatcher = Dispatcher("endpoint-first", [options(server.url)], lambda: cpu)
    assert set(score(dispatcher, patches(10))) == {"triton"}
    dispatcher.close()
    assert [fault.failure for fault in dispatcher.statistics[0].faults] == ["overload"] * 2


def test_patience_with_overload_ends(server: ScriptedServer, cpu: Cpu) -> None:
    server.reply("ModelInfer", lambda answer: answer, times=1)
    server.reply("ModelInfer", FULL)
    dispatcher = Dispatcher("endpoint-first", [options(server.url)], lambda: cpu, patience_s=0.1)
    assert set(score(dispatcher, patches(40))) == {"onnxruntime"}
    dispatcher.close()
    assert "Exceeds maximum queue size" in dispatcher.fallbacks[0].reason


def test_endpoint_only_fails_when_the_patience_with_overload_ends(server: ScriptedServer, cpu: Cpu) -> None:
    server.reply("ModelInfer", lambda answer: answer, times=1)
    server.reply("ModelInfer", FULL)
    dispatcher = Dispatcher("endpoint-only", [options(server.url)], lambda: cpu, patience_s=0.1)
    with pytest.raises(ServiceError, match="Exceeds maximum queue size"):
        score(dispatcher, patches(40))
    dispatcher.close()


@pytest.mark.parametrize("failure", [GONE, BROKEN])
def test_a_passing_failure_is_tried_again_at_the_endpoint(
    server: ScriptedServer, cpu: Cpu, failure: Failure
) -> None:
    after_check(server, failure, 2)
    dispatcher = Dispatcher("endpoint-first", [options(server.url, max_in_flight=1)], lambda: cpu)
    assert set(score(dispatcher, patches(40))) == {"triton"}
    dispatcher.close()
    assert dispatcher.statistics[0].retries.total() == 2
    assert dispatcher.fallbacks == []


def test_an_outage_falls_back_and_the_endpoint_is_used_again_when_it_is_back(
    server: ScriptedServer, cpu: Cpu
) -> None:
    dispatcher = Dispatcher("endpoint-first", [options(server.url)], lambda: cpu)
    assert set(score(dispatcher, patches(40))) == {"triton"}
    server.reply("ModelInfer", GONE)
    server.reply("ServerLive", GONE)
    assert score(dispatcher, patches(80))[-1] == "onnxruntime"
    probes = len(server.received("ServerLive"))
    wait_for(lambda: len(server.received("ServerLive")) > probes)
    server.reply_rightly()
    checked = len(server.received("ModelStatistics"))
    wait_for(lambda: len(server.received("ModelStatistics")) > checked)
    wait_for(lambda: score(dispatcher, patches(40))[-1] == "triton")
    dispatcher.close()
    [statistics] = dispatcher.statistics
    assert statistics.departures == 1
    assert statistics.retries["unavailable"] >= 3


def test_requests_that_fail_again_and_again_go_to_the_cpu_while_others_are_served(
    server: ScriptedServer, cpu: Cpu
) -> None:
    poison = patches(40)
    poison[10] = 7.0

    def fail_on_poison(answer: Any) -> Any:
        outputs = np.frombuffer(answer.raw_output_contents[0], np.float32)
        if np.abs(outputs - (0.5 + 7 * linear_weights()[0].sum())).min() < 1e-6:
            raise RuntimeError("this patch breaks the server")
        return answer

    server.reply("ModelInfer", fail_on_poison)
    dispatcher = Dispatcher("endpoint-first", [options(server.url, max_in_flight=1)], lambda: cpu, retries=1)
    names = score(dispatcher, poison)
    dispatcher.close()
    assert names == ["triton"] * 8 + ["onnxruntime"] * 8 + ["triton"] * 24
    assert dispatcher.fallbacks == []
    assert dispatcher.statistics[0].retries == {"backend": 2}

    only = Dispatcher("endpoint-only", [options(server.url, max_in_flight=1)], lambda: cpu, retries=1)
    with pytest.raises(ServiceError, match="failed 2 times"):
        score(only, poison)
    only.close()


def swapped(answer: Any) -> Any:
    """Exchange two rows: the canary stands elsewhere."""
    values = np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(-1, 3)
    answer.raw_output_contents[0] = values[::-1].tobytes()
    return answer


def test_a_wrong_answer_is_not_used_and_the_endpoint_gets_no_more_work(
    server: ScriptedServer, cpu: Cpu
) -> None:
    after_check(server, swapped, 1)
    dispatcher = Dispatcher("endpoint-first", [options(server.url, max_in_flight=1)], lambda: cpu)
    assert set(score(dispatcher, patches(40))) == {"onnxruntime"}
    assert set(score(dispatcher, patches(40))) == {"onnxruntime"}
    dispatcher.close()
    assert len(server.received("ModelInfer")) == 2, "the check and one request"
    assert "known patches" in dispatcher.fallbacks[0].reason
    assert dispatcher.statistics[0].retries == {"wrong-answer": 1}


def test_another_model_under_the_right_name_gets_no_work(model: Path, cpu: Cpu, tmp_path: Path) -> None:
    other = write_linear_model(tmp_path / "other.onnx", linear_weights(seed=1))
    with ScriptedServer(other) as server:
        dispatcher = Dispatcher("endpoint-first", [options(server.url)], lambda: cpu)
        assert set(score(dispatcher, patches(40))) == {"onnxruntime"}
        dispatcher.close()
        assert len(server.received("ModelInfer")) == 1
        only = Dispatcher("endpoint-only", [options(server.url)], lambda: cpu)
        with pytest.raises(ServiceError, match="not those of the local model"):
            score(only, patches(40))
        only.close()


def test_requests_that_are_too_large_for_a_proxy_are_halved(server: ScriptedServer, cpu: Cpu) -> None:
    after_check(server, Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "message larger than max"), 2)
    dispatcher = Dispatcher("endpoint-only", [options(server.url, max_in_flight=1)], lambda: cpu)
    score(dispatcher, patches(40))
    dispatcher.close()
    assert [call.patches - 2 for call in server.received("ModelInfer")][1:6] == [8, 4, 2, 2, 2]
    assert dispatcher.statistics[0].retries == {"too-large": 2}


def test_a_renewed_token_is_taken_without_leaving_the_endpoint(model: Path, cpu: Cpu, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    with ScriptedServer(model, token="old") as server:
        dispatcher = Dispatcher(
            "endpoint-only", [options(server.url, token_file=token)], lambda: cpu, patience_s=60
        )
        score(dispatcher, patches(40))
        server.token = "newer"
        rest = threading.Thread(target=lambda: score(dispatcher, patches(40)))
        rest.start()
        wait_for(lambda: bool(dispatcher.fallbacks))
        token.write_text("newer")
        rest.join()
        dispatcher.close()
    [statistics] = dispatcher.statistics
    assert statistics.patches == 80
    assert {fault.failure for fault in statistics.faults} == {"unauthenticated"}
    assert "newer" not in str(dispatcher.fallbacks) + str(statistics)


def test_an_expired_token_is_not_sent_again_and_again(model: Path, cpu: Cpu, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    with ScriptedServer(model, token="newer") as server:
        dispatcher = Dispatcher("endpoint-first", [options(server.url, token_file=token)], lambda: cpu)
        assert set(score(dispatcher, patches(400))) == {"onnxruntime"}
        dispatcher.close()
        assert len(server.calls) == 1
        only = Dispatcher("endpoint-only", [options(server.url, token_file=token)], lambda: cpu)
        with pytest.raises(ServiceError, match="UNAUTHENTICATED"):
            score(only, patches(4))
        only.close()


def test_a_token_that_is_not_there_is_an_error_of_the_configuration(
    server: ScriptedServer, cpu: Cpu, tmp_path: Path
) -> None:
    missing = options(server.url, token_file=tmp_path / "token")
    dispatcher = Dispatcher("endpoint-first", [missing], lambda: cpu)
    with pytest.raises(ConfigError, match="token"):
        score(dispatcher, patches(4))
    dispatcher.close()


def test_work_is_shared_by_the_weights(model: Path, cpu: Cpu) -> None:
    """Among endpoints that have room: both have it whenever a request is sent here."""
    with ScriptedServer(model) as heavy, ScriptedServer(model) as light:
        dispatcher = Dispatcher(
            "endpoint-only", [options(heavy.url, weight=3), options(light.url, weight=1)], lambda: cpu
        )

        def requests() -> NDArray[np.intp]:
            return np.array([statistics.requests for statistics in dispatcher.statistics])

        def is_shared() -> bool:
            score(dispatcher, patches(SIZE))
            return bool(requests().all())

        wait_for(is_shared)
        before = requests()
        for _ in range(40):
            score(dispatcher, patches(SIZE))
        shares = requests() - before
        dispatcher.close()
    assert sum(shares) == 40
    assert abs(shares[0] - 30) <= 1


def test_another_endpoint_takes_over_what_one_does_not_answer(model: Path, cpu: Cpu) -> None:
    with ScriptedServer(model) as dying, ScriptedServer(model) as other:
        dispatcher = Dispatcher("endpoint-first", [options(dying.url), options(other.url)], lambda: cpu)
        score(dispatcher, patches(80))
        dying.reply("ModelInfer", GONE)
        dying.reply("ServerLive", GONE)
        assert set(score(dispatcher, patches(160))) == {"triton"}
        dispatcher.close()
    assert cpu.patches == 0
    assert dispatcher.statistics[1].patches > 0


def test_an_endpoint_that_hangs_is_left_before_its_deadline(
    server: ScriptedServer, cpu: Cpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_lane, "STALL_S", 0.1)
    gate = threading.Event()
    server.reply("ModelInfer", lambda answer: answer, times=1)
    server.reply("ModelInfer", lambda answer: (gate.wait(60), answer)[1])
    dispatcher = Dispatcher("endpoint-first", [options(server.url)], lambda: cpu)
    consumer = threading.Thread(target=lambda: score(dispatcher, patches(40)))
    consumer.start()
    wait_for(lambda: len(server.received("ModelInfer")) > 1)
    server.reply("ServerLive", GONE)
    consumer.join()
    gate.set()
    dispatcher.close()
    assert cpu.patches == 40
    assert dispatcher.statistics[0].departures == 1


def test_an_endpoint_that_is_only_slow_is_asked_and_kept(
    server: ScriptedServer, cpu: Cpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_lane, "STALL_S", 0.05)
    gate = threading.Event()
    server.reply("ModelInfer", lambda answer: answer, times=1)
    server.reply("ModelInfer", lambda answer: (gate.wait(60), answer)[1])
    dispatcher = Dispatcher("endpoint-first", [options(server.url)], lambda: cpu)
    consumer = threading.Thread(target=lambda: score(dispatcher, patches(40)))
    consumer.start()
    wait_for(lambda: len(server.received("ServerLive")) >= 3)
    gate.set()
    consumer.join()
    dispatcher.close()
    assert cpu.patches == 0
    assert dispatcher.fallbacks == []


def test_a_deadline_that_passes_is_tried_again(server: ScriptedServer, cpu: Cpu) -> None:
    gate = threading.Event()
    after_check(server, lambda answer: (gate.wait(60), answer)[1], 1)
    dispatcher = Dispatcher("endpoint-only", [options(server.url, request_timeout_s=1.0)], lambda: cpu)
    score(dispatcher, patches(40))
    gate.set()
    dispatcher.close()
    assert dispatcher.statistics[0].retries == {"timeout": 1}


def test_cooperation_uses_both_ends_and_nobody_waits_for_a_slow_endpoint(
    server: ScriptedServer, cpu: Cpu
) -> None:
    gate = threading.Event()
    server.reply("ModelInfer", lambda answer: answer, times=3)
    server.reply("ModelInfer", lambda answer: (gate.wait(60), answer)[1])
    dispatcher = Dispatcher("cooperative", [options(server.url, max_in_flight=2)], lambda: cpu)
    cpu.gate.clear()
    result: list[list[str]] = []
    consumer = threading.Thread(target=lambda: result.append(score(dispatcher, patches(160))))
    consumer.start()
    wait_for(lambda: len(server.received("ModelInfer")) >= 4)
    cpu.gate.set()
    consumer.join()  # the endpoint holds back what it has got, and the CPU does that too
    gate.set()
    [names] = result
    dispatcher.close()
    assert set(names) == {"triton", "onnxruntime"}
    [statistics] = dispatcher.statistics
    assert statistics.answers == 2, "more it has not answered"
    assert statistics.patches == names.count("triton")
    assert dispatcher.cpu_patches == names.count("onnxruntime")


def test_what_is_finished_twice_counts_once(server: ScriptedServer, cpu: Cpu) -> None:
    gate = threading.Event()
    after_check(server, lambda answer: (gate.wait(60), answer)[1], 1)
    dispatcher = Dispatcher("cooperative", [options(server.url, max_in_flight=1)], lambda: cpu)
    all_patches = patches(40)
    parts: list[tuple[NDArray[np.float32], NDArray[np.object_]]] = []
    rest = threading.Event()

    def made_batches() -> Iterator[Patches]:
        yield all_patches[:8]
        rest.wait(60)
        yield all_patches[8:]

    # The endpoint gets the first hits, and the CPU nothing before all the others are there.
    cpu.gate.clear()
    consumer = threading.Thread(target=lambda: parts.extend(dispatcher.score(made_batches())))
    consumer.start()
    wait_for(lambda: len(server.received("ModelInfer")) == 2)
    rest.set()
    cpu.gate.set()
    wait_for(lambda: dispatcher.cpu_patches >= 32)
    wait_for(lambda: not consumer.is_alive() or dispatcher.cpu_patches == 40)
    gate.set()  # the endpoint answers what the CPU has scored meanwhile
    consumer.join()
    dispatcher.close()
    names = [name for _, some in parts for name in some]
    assert len(names) == 40
    assert names.count("triton") == dispatcher.statistics[0].patches
    assert names.count("onnxruntime") == dispatcher.cpu_patches


def test_an_endpoint_that_answers_first_wins_over_the_cpu(server: ScriptedServer, cpu: Cpu) -> None:
    gate, cpu_gate, cpu_has_begun = threading.Event(), threading.Event(), threading.Event()
    all_patches = patches(8)

    def hold_the_first(some: Patches) -> None:
        if np.array_equal(some[0], all_patches[0]):
            cpu_has_begun.set()
            cpu_gate.wait(60)

    after_check(server, lambda answer: (gate.wait(60), answer)[1], 1)
    dispatcher = Dispatcher("cooperative", [options(server.url, max_in_flight=1)], lambda: cpu)
    cpu.gate.clear()
    cpu.before = hold_the_first
    result: list[list[str]] = []
    consumer = threading.Thread(target=lambda: result.append(score(dispatcher, all_patches)))
    consumer.start()
    wait_for(lambda: len(server.received("ModelInfer")) == 2)
    cpu.gate.set()
    assert cpu_has_begun.wait(60), "the CPU attempts what the endpoint has not answered"
    gate.set()
    consumer.join()
    cpu_gate.set()
    dispatcher.close()
    assert result == [["triton"] * 4 + ["onnxruntime"] * 4]
    assert dispatcher.statistics[0].patches == dispatcher.cpu_patches == 4


def test_a_change_of_version_is_recorded(server: ScriptedServer, cpu: Cpu) -> None:
    def newer(answer: Any) -> Any:
        answer.model_version = "2"
        return answer

    server.reply("ModelInfer", lambda answer: answer, times=3)
    server.reply("ModelInfer", newer)
    dispatcher = Dispatcher("endpoint-only", [options(server.url, max_in_flight=1)], lambda: cpu)
    score(dispatcher, patches(80))
    dispatcher.close()
    assert dispatcher.statistics[0].model_versions == ["1", "2"]


def test_an_error_of_the_local_model_is_final(cpu: Cpu) -> None:
    cpu.error = ModelError("a score is not finite")
    dispatcher = Dispatcher("endpoint-first", [options(NOBODY)], lambda: cpu)
    with pytest.raises(ModelError, match="not finite"):
        score(dispatcher, patches(40))
    dispatcher.close()


@pytest.mark.parametrize("policy", ["cpu-only", "endpoint-first", "endpoint-only"])
def test_a_model_that_cannot_be_loaded_is_an_error(server: ScriptedServer, policy: Policy) -> None:
    def load() -> Cpu:
        raise ModelError("it is no model")

    dispatcher = Dispatcher(policy, [options(server.url)], load)
    with pytest.raises(ModelError, match="no model"):
        score(dispatcher, patches(4))
    dispatcher.close()


def test_an_error_while_a_batch_is_made_ends_the_scoring(server: ScriptedServer, cpu: Cpu) -> None:
    def broken() -> Iterator[Patches]:
        yield patches(3)
        raise KeyError("broken")

    dispatcher = Dispatcher("endpoint-only", [options(server.url)], lambda: cpu)
    with pytest.raises(KeyError, match="broken"):
        list(dispatcher.score(broken()))
    dispatcher.close()


@pytest.mark.parametrize("policy", ["cpu-only", "endpoint-only", "cooperative"])
def test_closing_in_the_middle_leaves_no_thread(server: ScriptedServer, cpu: Cpu, policy: Policy) -> None:
    dispatcher = Dispatcher(policy, [options(server.url)], lambda: cpu)
    next(dispatcher.score(batches(patches(400))))
    dispatcher.close()
    ours = ("dispatcher", "endpoint-check", "onnxruntime")
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith(ours)] == []


def test_what_the_server_counts_is_recorded(server: ScriptedServer, cpu: Cpu) -> None:
    dispatcher = Dispatcher("endpoint-only", [options(server.url)], lambda: cpu)
    score(dispatcher, patches(80))
    dispatcher.close()
    [statistics] = dispatcher.statistics
    assert statistics.server_requests == statistics.requests == statistics.answers == 10
    assert statistics.patches == 80
    assert statistics.bytes_sent == (80 + 20) * 9216
    assert statistics.bytes_received == (80 + 20) * 16
    assert len(statistics.latency_s) == 10
    assert statistics.deviation == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("policy", ["endpoint-first", "cooperative"])
@pytest.mark.parametrize("seed", range(8))
def test_whatever_fails_every_hit_gets_its_score_once(model: Path, policy: Policy, seed: int) -> None:
    """Two endpoints that fail at random in every passing way, and at last in a final one."""
    chance = random.Random(seed)
    passing = [FULL, GONE, BROKEN, Failure(grpc.StatusCode.CANCELLED, "the server stops"), None, None, None]
    with ScriptedServer(model) as first, ScriptedServer(model) as second:
        for server in (first, second):
            for _ in range(120):
                reply = chance.choice(passing)
                server.reply("ModelInfer", reply or (lambda answer: answer), times=1)
        first.reply("ModelInfer", swapped)
        dispatcher = Dispatcher(
            policy, [options(first.url), options(second.url)], lambda: Cpu(model, concurrency=2)
        )
        names = score(dispatcher, patches(1501), size=chance.choice([1, 5, 13, 64]))
        dispatcher.close()
    served = sum(statistics.patches for statistics in dispatcher.statistics)
    assert served == names.count("triton")
    assert dispatcher.cpu_patches == names.count("onnxruntime")
    assert served + dispatcher.cpu_patches == 1501
