"""Every call to an endpoint: its deadline, what is sent with it, and what becomes of the answer."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from integration.faults.certificates import ServerCertificate
from integration.faults.scripted_server import Failure, ScriptedServer, response
from integration.serving import sparse_patches
from protosonic.errors import ConfigError
from protosonic.inference.endpoint_options import EndpointOptions
from protosonic.inference.failure_policy import Action, EndpointError, FailureClass
from protosonic.inference.triton_client import Answer, TritonClient
from support.clients import Gate, assert_scores_equal

PATCHES = sparse_patches(5)
TOKEN = "c0ffee.SECRET"
SECONDS = {"connect_timeout_s": 20.0, "request_timeout_s": 70.0}
GRPC_STEP_S = 0.1
"""On the wire gRPC rounds time limits of 10 to 100 s up to steps of this length."""
CALLS: dict[str, Callable[[TritonClient], Any]] = {
    "ServerLive": TritonClient.is_live,
    "ServerMetadata": TritonClient.server_metadata,
    "RepositoryIndex": TritonClient.repository_index,
    "ModelReady": TritonClient.is_model_ready,
    "ModelMetadata": TritonClient.read_tensors,
    "ModelConfig": TritonClient.model_config,
    "ModelStatistics": TritonClient.server_times,
    "ModelInfer": lambda client: client.infer(client.prepare(PATCHES)),
}


@pytest.fixture
def connect() -> Iterator[Callable[..., TritonClient]]:
    """Make clients that are closed with the test."""
    clients: list[TritonClient] = []

    def make(url: str, **options: Any) -> TritonClient:
        clients.append(TritonClient(EndpointOptions(url, **(SECONDS | options))))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def test_the_list_of_calls_is_complete() -> None:
    """So that a new call cannot be forgotten below."""
    calls = {name for name, value in vars(TritonClient).items() if callable(value) and name[0] != "_"}
    own = {function.__name__ for function in CALLS.values()} - {"<lambda>"} | {"infer"}
    assert calls - {"prepare", "prepare_hits", "send", "close", "has_newer_token"} == own


class AskedTimeouts(grpc.UnaryUnaryClientInterceptor):
    """Keeps the time limits of calls as the client states them."""

    def __init__(self) -> None:
        self.by_rpc: dict[str, float | None] = {}

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        self.by_rpc[details.method.rpartition("/")[2]] = details.timeout
        return continuation(details, request)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> AskedTimeouts:
    timeouts = AskedTimeouts()
    open_channel = grpc.insecure_channel
    monkeypatch.setattr(
        grpc,
        "insecure_channel",
        lambda *arguments: grpc.intercept_channel(open_channel(*arguments), timeouts),
    )
    return timeouts


@pytest.mark.parametrize("rpc", CALLS)
def test_every_call_has_its_deadline_headers_and_token(
    server: ScriptedServer, asked: AskedTimeouts, connect: Any, monkeypatch: pytest.MonkeyPatch, rpc: str
) -> None:
    monkeypatch.setenv("SOME_TOKEN", TOKEN)
    client = connect(server.url, token_env="SOME_TOKEN", headers={"X-Team": "dune", "x-run": "1"})
    CALLS[rpc](client)
    [call] = server.received(rpc)
    limit = SECONDS["request_timeout_s" if rpc == "ModelInfer" else "connect_timeout_s"]
    assert asked.by_rpc[rpc] == limit
    assert call.deadline_s is not None
    assert limit - 15 < call.deadline_s <= limit + GRPC_STEP_S
    assert call.metadata["authorization"] == f"Bearer {TOKEN}"
    assert (call.metadata["x-team"], call.metadata["x-run"]) == ("dune", "1")


@pytest.mark.parametrize("rpc", CALLS)
def test_a_deadline_that_passes_is_an_error_of_every_call(
    server: ScriptedServer, connect: Any, rpc: str
) -> None:
    gate = Gate()
    server.reply(rpc, gate)
    client = connect(server.url, connect_timeout_s=0.2, request_timeout_s=0.2)
    with pytest.raises(EndpointError) as caught:
        CALLS[rpc](client)
    gate.open.set()
    assert caught.value.failure is FailureClass.TIMEOUT
    assert caught.value.action is Action.RETRY
    assert caught.value.status == "DEADLINE_EXCEEDED"


def test_a_token_is_read_anew_for_every_call(model: Path, connect: Any, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    with ScriptedServer(model, token="new") as server:
        client = connect(server.url, token_file=file)
        with pytest.raises(EndpointError) as caught:
            client.is_live()
        assert caught.value.action is Action.REAUTHENTICATE
        assert not client.has_newer_token()
        (tmp_path / "next").write_text("new")
        (tmp_path / "next").replace(file)
        assert client.has_newer_token()
        assert client.is_live()
        assert not client.has_newer_token()


@pytest.mark.parametrize("rpc", ["ServerLive", "ModelInfer"])
def test_a_token_is_never_shown(
    model: Path,
    connect: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    rpc: str,
) -> None:
    monkeypatch.setenv("SOME_TOKEN", TOKEN)
    caplog.set_level("DEBUG")
    with ScriptedServer(model, token="another") as server:
        client = connect(server.url, token_env="SOME_TOKEN")
        with pytest.raises(EndpointError) as caught:
            CALLS[rpc](client)
        call = client.send(client.prepare(PATCHES), lambda _: None)
    error: BaseException | None = caught.value
    shown = [repr(client), repr(client.options), repr(call), str(call), caplog.text, *capfd.readouterr()]
    while error is not None:
        shown += [str(error), repr(error), str(vars(error))]
        error = error.__cause__ or error.__context__
    assert "Jwt is expired" in "".join(shown)
    assert TOKEN not in "".join(shown)


def test_a_token_that_cannot_be_read_fails_the_request(
    server: ScriptedServer, connect: Any, tmp_path: Path
) -> None:
    client = connect(server.url, token_file=tmp_path / "missing")
    for use in (client.is_live, lambda: client.infer(client.prepare(PATCHES))):
        with pytest.raises(ConfigError, match="the bearer token cannot be read"):
            use()
    assert server.calls == []


def test_tls_with_certificates_on_both_sides(model: Path, connect: Any, tmp_path: Path) -> None:
    certificate = ServerCertificate.make(tmp_path)
    with ScriptedServer(model, certificate=certificate, client_certificates=True) as server:
        client = connect(
            server.url,
            ca_file=certificate.authority,
            cert_file=certificate.client_chain,
            key_file=certificate.client_key,
        )
        assert client.is_live()
        assert len(client.infer(client.prepare(PATCHES)).scores) == 5


@pytest.mark.parametrize("trusted", [None, "other"])
def test_a_server_that_nobody_vouches_for_is_refused(
    model: Path, connect: Any, tmp_path: Path, trusted: str | None
) -> None:
    certificate = ServerCertificate.make(tmp_path / "server")
    other = ServerCertificate.make(tmp_path / "other").authority
    with ScriptedServer(model, certificate=certificate) as server:
        client = connect(server.url, ca_file=other if trusted else None)
        with pytest.raises(EndpointError) as caught:
            client.is_live()
    assert caught.value.failure is FailureClass.TLS
    assert caught.value.action is Action.REFUSE
    assert server.calls == []


def test_a_server_without_tls_is_not_talked_to_in_the_clear(server: ScriptedServer, connect: Any) -> None:
    client = connect(server.url.replace("grpc://", "grpcs://"))
    with pytest.raises(EndpointError) as caught:
        client.is_live()
    assert caught.value.failure is FailureClass.TLS


@pytest.mark.parametrize("key", ["ca_file", "cert_file", "key_file"])
def test_a_certificate_that_is_not_there_is_named(tmp_path: Path, key: str) -> None:
    certificate = ServerCertificate.make(tmp_path)
    files = {"cert_file": certificate.client_chain, "key_file": certificate.client_key}
    missing = tmp_path / "missing.pem"
    with pytest.raises(ConfigError, match="a certificate file cannot be read") as caught:
        TritonClient(EndpointOptions("grpcs://127.0.0.1:1", **(files | {key: missing})))
    assert str(missing) in str(caught.value)


def test_a_prepared_request_is_a_copy_and_can_be_sent_again(
    server: ScriptedServer, connect: Any, score: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> None:
    patches = PATCHES.copy()
    client = connect(server.url, version="1")
    request = client.prepare(patches)
    patches[:] = 0
    assert (request.n_patches, request.n_bytes) == (5, 5 * 48 * 48 * 4)
    for _ in range(2):
        answer = client.infer(request)
        assert_scores_equal(answer.scores, score(PATCHES))
        assert answer.model_version == "1"
        assert answer.n_bytes == 5 * 4 * 4
        assert answer.seconds > 0


def test_arrays_that_are_not_contiguous_are_sent_rightly(
    server: ScriptedServer, connect: Any, score: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> None:
    patches = sparse_patches(8).transpose(0, 2, 1)[::2]
    client = connect(server.url)
    expected = score(np.ascontiguousarray(patches))
    assert_scores_equal(client.infer(client.prepare(patches)).scores, expected)


def test_typed_contents_are_read_as_bytes_are(server: ScriptedServer, connect: Any) -> None:
    """Servers other than Triton may answer so."""
    client = connect(server.url)
    expected = client.infer(client.prepare(PATCHES)).scores

    def typed(answer: Any) -> Any:
        for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
            output.contents.fp32_contents.extend(np.frombuffer(raw, np.float32).tolist())
        del answer.raw_output_contents[:]
        return answer

    server.reply("ModelInfer", typed)
    assert_scores_equal(client.infer(client.prepare(PATCHES)).scores, expected)


def test_outputs_in_another_order_are_found_by_name(server: ScriptedServer, connect: Any) -> None:
    client = connect(server.url)
    outputs = {
        "michel_netout": np.full((5, 1), 0.75, np.float32),
        "another": np.zeros((5, 7), np.float32),
        "em_trk_none_netout": np.tile(np.array([0.5, 0.25, 0.125], np.float32), (5, 1)),
    }
    server.reply("ModelInfer", lambda _: response(outputs))
    scores = client.infer(client.prepare(PATCHES)).scores
    np.testing.assert_array_equal(scores, [[0.5, 0.25, 0.125, 0.75]] * 5)


def wrong_answers() -> Iterator[Any]:
    three, one = np.full((5, 3), 0.25, np.float32), np.full((5, 1), 0.5, np.float32)
    cases = {
        "missing": {"em_trk_none_netout": three},
        "none": {},
        "short": {"em_trk_none_netout": three[:4], "michel_netout": one},
        "wide": {"em_trk_none_netout": three, "michel_netout": np.repeat(one, 2, axis=1)},
        "nan": {"em_trk_none_netout": three, "michel_netout": one * np.float32(np.nan)},
        "infinite": {"em_trk_none_netout": three * np.float32(np.inf), "michel_netout": one},
    }
    for name, outputs in cases.items():
        yield pytest.param(lambda _, outputs=outputs: response(outputs), id=name)

    def twice(answer: Any) -> Any:
        answer.outputs.add().CopyFrom(answer.outputs[1])
        answer.raw_output_contents.append(answer.raw_output_contents[1])
        return answer

    def cut(answer: Any) -> Any:
        answer.raw_output_contents[0] = answer.raw_output_contents[0][:-1]
        return answer

    yield pytest.param(twice, id="twice")
    yield pytest.param(cut, id="cut")


@pytest.mark.parametrize("reply", list(wrong_answers()))
def test_an_answer_that_is_not_what_was_asked_for_is_wrong(
    server: ScriptedServer, connect: Any, reply: Callable[[Any], Any]
) -> None:
    client = connect(server.url)
    server.reply("ModelInfer", reply)
    with pytest.raises(EndpointError) as caught:
        client.infer(client.prepare(PATCHES))
    assert caught.value.failure is FailureClass.WRONG_ANSWER
    assert caught.value.status is None
    assert server.url in str(caught.value)


def test_a_request_that_is_cancelled_is_called_back_once(server: ScriptedServer, connect: Any) -> None:
    gate = Gate()
    server.reply("ModelInfer", gate)
    client = connect(server.url)
    outcomes: list[object] = []
    has_come = threading.Event()

    def came(outcome: object) -> None:
        outcomes.append(outcome)
        has_come.set()

    call = client.send(client.prepare(PATCHES), came)
    call.cancel()
    assert has_come.wait(60)
    call.cancel()
    gate.open.set()
    client.is_live()
    [error] = outcomes
    assert isinstance(error, EndpointError)
    assert error.status == "CANCELLED"


def test_closing_ends_what_is_under_way(server: ScriptedServer, connect: Any) -> None:
    gate = Gate()
    server.reply("ModelInfer", gate)
    client = connect(server.url)
    outcomes: list[object] = []
    has_come = threading.Event()
    client.send(client.prepare(PATCHES), lambda outcome: (outcomes.append(outcome), has_come.set()))
    client.close()
    assert has_come.wait(60)
    gate.open.set()
    [error] = outcomes
    assert isinstance(error, EndpointError)
    assert error.action is Action.RETRY


@pytest.mark.parametrize("rpc", ["ServerLive", "ModelInfer"])
def test_a_closed_channel_is_an_error(server: ScriptedServer, connect: Any, rpc: str) -> None:
    client = connect(server.url)
    client.close()
    with pytest.raises(EndpointError, match="the channel is closed") as caught:
        CALLS[rpc](client)
    assert caught.value.failure is FailureClass.UNAVAILABLE


def test_answers_that_come_in_another_order_belong_to_their_requests(
    server: ScriptedServer, connect: Any, score: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> None:
    first_may_answer = Gate()
    server.reply("ModelInfer", first_may_answer, times=1)
    client = connect(server.url)
    answers: dict[str, Answer] = {}
    came = {name: threading.Event() for name in ("first", "second")}

    def note(name: str) -> Callable[[Any], None]:
        return lambda outcome: (answers.update({name: outcome}), came[name].set())[0]

    client.send(client.prepare(PATCHES), note("first"))
    while not server.received("ModelInfer"):
        client.is_live()
    client.send(client.prepare(PATCHES[::-1]), note("second"))
    assert came["second"].wait(60)
    assert not came["first"].is_set()
    first_may_answer.open.set()
    assert came["first"].wait(60)
    assert_scores_equal(answers["first"].scores, score(PATCHES))
    assert_scores_equal(answers["second"].scores, score(PATCHES[::-1]))


@pytest.mark.parametrize("rpc", CALLS)
def test_a_client_that_was_carried_through_a_fork_makes_no_call(
    server: ScriptedServer, connect: Any, monkeypatch: pytest.MonkeyPatch, rpc: str
) -> None:
    client = connect(server.url)
    monkeypatch.setattr(client, "_pid", os.getpid() + 1)
    with pytest.raises(RuntimeError, match="carried through a fork"):
        CALLS[rpc](client)
    assert server.calls == []


def test_what_the_server_counts_is_summed_over_versions(server: ScriptedServer, connect: Any) -> None:
    def two(answer: Any) -> Any:
        [first] = answer.model_stats
        first.inference_stats.success.count = 3
        first.inference_stats.queue.ns = 10**9
        first.inference_stats.compute_infer.ns = 5 * 10**8
        answer.model_stats.add().CopyFrom(first)
        return answer

    server.reply("ModelStatistics", two)
    assert connect(server.url).server_times() == (6, 2.0, 1.0)


def test_a_name_that_has_no_address_is_an_outage(connect: Any) -> None:
    client = connect("grpc://no-such-host.invalid:8001", connect_timeout_s=30)
    with pytest.raises(EndpointError) as caught:
        client.is_live()
    assert caught.value.action is Action.RETRY


def test_a_refusal_names_endpoint_model_status_and_message(server: ScriptedServer, connect: Any) -> None:
    server.reply("ModelInfer", Failure(grpc.StatusCode.INTERNAL, "out of memory"))
    client = connect(server.url, version="3")
    with pytest.raises(EndpointError) as caught:
        client.infer(client.prepare(PATCHES))
    assert str(caught.value).startswith(f"{server.url} model emtrkmichel version 3: the inference request")
    assert "INTERNAL: out of memory" in str(caught.value)
