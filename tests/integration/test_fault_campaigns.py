"""Campaigns through every fault of an endpoint: complete, with the right scores, and a record of what happened.

Each is disturbed once about a third of its hits are scored, with requests under way; where all that follows is slow,
after three quarters: a quarter is five partitions; where several faults follow each other, after a tenth. What is mended
is mended when the fault has been noticed, and before more partitions start (``Disturbed.go``): no test depends on how fast
the machine is.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from integration.faults.certificates import ServerCertificate
from integration.faults.corruptions import not_finite
from integration.faults.disturbed import Disturbed, Losses, Prepared, after
from integration.faults.proxy import FaultProxy
from integration.faults.scripted_server import ScriptedServer
from integration.faults.servers import FaultyServer, Repository
from integration.faults.token_gate import TokenGate
from integration.serving import await_true
from support.models import linear_weights, write_linear_model

CALL_S = 0.05
"""Time that the server takes for a call at least: like a device, it does not share the CPU with the jobs."""
SHARE = 0.3
SHARE_BEFORE_SLOW = 0.75
SHARE_BEFORE_MANY = 0.1
STATUS_CLASSES = {"unavailable", "timeout", "not-ready"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "right": write_linear_model(folder / "right.onnx", linear_weights(0)),
        "wrong": write_linear_model(folder / "wrong.onnx", linear_weights(1)),
        "wide": write_linear_model(folder / "wide.onnx", linear_weights(0), widths=(4, 1)),
    }


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, models: dict[str, Path]) -> Repository:
    folder = tmp_path_factory.mktemp("repository")
    repository = Repository(folder / "repository", models["right"], other=models["wrong"])
    repository.control(seconds_per_call=CALL_S)
    return repository


@pytest.fixture(scope="module")
def the_server(tmp_path_factory: pytest.TempPathFactory, repository: Repository) -> Iterator[FaultyServer]:
    with FaultyServer(repository, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def server(the_server: FaultyServer) -> FaultyServer:
    """The server, as it was before other tests had their way with it."""
    if not the_server.is_running:
        the_server.start()
    return the_server


@pytest.fixture
def proxy(server: FaultyServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.ports.grpc) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, models: dict[str, Path]) -> Prepared:
    return Prepared.make(tmp_path_factory.mktemp("campaign"), models["right"])


@pytest.fixture(scope="module")
def losses() -> Losses:
    return Losses()


@pytest.fixture(scope="module")
def undisturbed(
    prepared: Prepared, the_server: FaultyServer, tmp_path_factory: pytest.TempPathFactory, losses: Losses
) -> Disturbed:
    campaign = prepared.at(tmp_path_factory.mktemp("undisturbed") / "run", the_server.url)
    campaign.go()
    assert campaign.failures == {}
    assert campaign.hits_by == {the_server.url: prepared.hits}
    losses.note("none", campaign, campaign)
    return campaign


Check = Callable[[str, Disturbed], None]


@pytest.fixture
def check(undisturbed: Disturbed, losses: Losses) -> Check:
    """Check that a campaign is complete and right, and note what the fault cost."""

    def check(fault: str, campaign: Disturbed) -> None:
        campaign.check(undisturbed)
        losses.note(fault, campaign, undisturbed)

    return check


@contextmanager
def changed(repository: Repository, server: FaultyServer, models: dict[str, Path]) -> Iterator[None]:
    """Give the server the right model back at the end."""
    try:
        yield
    finally:
        repository.replace(models["right"])
        repository.control(seconds_per_call=CALL_S)
        server.load()


def assert_came_back(campaign: Disturbed, url: str) -> None:
    """Check that jobs that started after the return used the endpoint.

    Not that each of them did: where all else is busy a new connection may take longer than it is waited for here.
    """
    assert any(hits[url] > 0 for hits in campaign.hits_after_mending)


def test_never_there(prepared: Prepared, nobody: str, tmp_path: Path, check: Check) -> None:
    campaign = prepared.at(tmp_path / "run", nobody)
    campaign.go()
    check("never there", campaign)
    assert set(campaign.hits_by) == {"onnxruntime", nobody}
    assert campaign.hits_by[nobody] == 0
    assert set(campaign.failures) == {"unavailable"}
    assert any(nobody in reason for reason in campaign.fallbacks)
    assert nobody in campaign.output


def test_killed(prepared: Prepared, server: FaultyServer, tmp_path: Path, check: Check) -> None:
    campaign = prepared.at(tmp_path / "run", server.url)
    campaign.go(after(server, SHARE, prepared.hits), server.kill)
    check("SIGKILL", campaign)
    assert min(campaign.hits_by[server.url], campaign.hits_by["onnxruntime"]) > 0
    assert campaign.failures["unavailable"] > 0
    assert any(server.url in reason for reason in campaign.fallbacks)


def test_stopped_for_a_while(prepared: Prepared, server: FaultyServer, tmp_path: Path, check: Check) -> None:
    campaign = prepared.at(tmp_path / "run", server.url)
    campaign.go(after(server, SHARE, prepared.hits), server.process.suspend, server.process.resume)
    check("SIGSTOP until a request took too long, then SIGCONT", campaign)
    # A job that connects meanwhile sees another failure than one with a request under way.
    assert STATUS_CLASSES.intersection(campaign.failures)
    assert campaign.fallbacks
    assert_came_back(campaign, server.url)


def test_restarted(prepared: Prepared, server: FaultyServer, tmp_path: Path, check: Check) -> None:
    campaign = prepared.at(tmp_path / "run", server.url)
    campaign.go(after(server, SHARE, prepared.hits), server.stop, server.start)
    check("restart", campaign)
    assert STATUS_CLASSES.intersection(campaign.failures)
    assert_came_back(campaign, server.url)


def test_model_unloaded_and_loaded_again(
    prepared: Prepared, server: FaultyServer, tmp_path: Path, check: Check
) -> None:
    campaign = prepared.at(tmp_path / "run", server.url)
    campaign.go(after(server, SHARE, prepared.hits), server.unload, server.load)
    check("model unloaded, and loaded again", campaign)
    assert campaign.failures["not-ready"] > 0
    assert_came_back(campaign, server.url)


def test_queue_full(
    prepared: Prepared,
    server: FaultyServer,
    repository: Repository,
    models: dict[str, Path],
    tmp_path: Path,
    check: Check,
) -> None:
    """With a queue of one and calls as slow as this there is always one request too many."""

    def shorten_the_queue() -> None:
        repository.replace(models["right"], max_queue_size=1, max_batch_size=130)
        repository.control(seconds_per_call=4 * CALL_S)
        server.load()

    with changed(repository, server, models):
        campaign = prepared.at(tmp_path / "run", server.url)
        campaign.go(after(server, SHARE_BEFORE_SLOW, prepared.hits), shorten_the_queue)
    check("queue full: max_queue_size 1, four times slower", campaign)
    assert campaign.failures["overload"] > 0
    assert campaign.fallbacks == []
    assert campaign.hits_by == {server.url: prepared.hits}, "overload is waited for"


def test_ten_times_slower(
    prepared: Prepared, server: FaultyServer, repository: Repository, tmp_path: Path, check: Check
) -> None:
    campaign = prepared.at(tmp_path / "run", server.url)
    campaign.go(
        after(server, SHARE_BEFORE_SLOW, prepared.hits),
        lambda: repository.control(seconds_per_call=10 * CALL_S),
    )
    repository.control(seconds_per_call=CALL_S)
    check("ten times slower", campaign)
    assert campaign.hits_by == {server.url: prepared.hits}
    latencies = [use["latency_s"]["p50"] for use in campaign.uses if use["latency_s"]]
    assert max(latencies) >= 10 * CALL_S
    assert max(use["server_compute_ms"] or 0 for use in campaign.uses) >= 9000 * CALL_S


def test_wrong_model_under_the_right_name(
    prepared: Prepared,
    server: FaultyServer,
    repository: Repository,
    models: dict[str, Path],
    tmp_path: Path,
    check: Check,
) -> None:
    def replace() -> None:
        repository.replace(models["wrong"])
        server.load()

    with changed(repository, server, models):
        campaign = prepared.at(tmp_path / "run", server.url)
        campaign.go(after(server, SHARE, prepared.hits), replace)
    check("wrong model under the right name", campaign)
    assert {"wrong-model", "wrong-answer"}.intersection(campaign.failures)
    assert any("not those of the local model" in reason for reason in campaign.fallbacks)
    assert campaign.hits_by["onnxruntime"] > prepared.hits / 3


def test_wrong_tensor_shape(
    prepared: Prepared,
    server: FaultyServer,
    repository: Repository,
    models: dict[str, Path],
    tmp_path: Path,
    check: Check,
) -> None:
    def replace() -> None:
        repository.replace(models["wide"], width=4)
        server.load()

    with changed(repository, server, models):
        campaign = prepared.at(tmp_path / "run", server.url)
        campaign.go(after(server, SHARE, prepared.hits), replace)
    check("wrong tensor shape", campaign)
    assert campaign.failures["wrong-model"] > 0
    assert any("does not meet the contract" in reason for reason in campaign.fallbacks)


def test_token_expired_and_renewed(
    prepared: Prepared, server: FaultyServer, tmp_path: Path, check: Check
) -> None:
    secret = "first-secret"
    token_file = tmp_path / "token"
    token_file.write_text(secret)
    with TokenGate(server.ports.grpc, secret) as gate:

        def expire() -> None:
            gate.token = "second-secret"

        def renew() -> None:
            (tmp_path / "newer").write_text(gate.token)
            (tmp_path / "newer").rename(token_file)

        campaign = prepared.at(tmp_path / "run", {"url": gate.url, "token_file": str(token_file)})
        campaign.go(after(server, SHARE, prepared.hits), expire, renew)
        check("token expired, and renewed", campaign)
        assert gate.refused > 0
        assert campaign.failures["unauthenticated"] > 0
        assert_came_back(campaign, gate.url)
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            assert b"-secret" not in path.read_bytes(), path


def test_certificate_of_an_unknown_authority(
    prepared: Prepared, repository: Repository, tmp_path: Path, check: Check
) -> None:
    known, unknown = (ServerCertificate.make(tmp_path / name) for name in ("known", "unknown"))
    with FaultyServer(repository, tmp_path / "tls", certificate=known) as server:

        def change_the_certificate() -> None:
            server.kill()
            server.certificate = unknown
            server.start()

        endpoint = {"url": server.url, "ca_file": str(known.authority)}
        campaign = prepared.at(tmp_path / "run", endpoint)
        campaign.go(after(server, SHARE, prepared.hits), change_the_certificate)
        check("restart with a certificate of an unknown CA", campaign)
        assert campaign.failures["tls"] > 0
        assert any("CERTIFICATE_VERIFY_FAILED" in reason for reason in campaign.fallbacks)
        assert min(campaign.hits_by[server.url], campaign.hits_by["onnxruntime"]) > 0


def test_proxy_delays(
    prepared: Prepared, server: FaultyServer, proxy: FaultProxy, tmp_path: Path, check: Check
) -> None:
    campaign = prepared.at(tmp_path / "run", proxy.url)
    campaign.go(after(server, SHARE_BEFORE_SLOW, prepared.hits), lambda: proxy.behave(delay_s=0.15))
    check("proxy: 0.15 s more each way", campaign)
    assert campaign.hits_by == {proxy.url: prepared.hits}
    assert max(use["latency_s"]["p50"] for use in campaign.uses) > 0.3


def test_proxy_drops_everything(
    prepared: Prepared, server: FaultyServer, proxy: FaultProxy, tmp_path: Path, check: Check
) -> None:
    campaign = prepared.at(tmp_path / "run", proxy.url)
    campaign.go(after(server, SHARE, prepared.hits), lambda: proxy.behave(hold=True))
    check("proxy: black hole", campaign)
    assert campaign.failures["timeout"] > 0
    assert any("DEADLINE_EXCEEDED" in reason for reason in campaign.fallbacks)
    assert min(campaign.hits_by[proxy.url], campaign.hits_by["onnxruntime"]) > 0


def test_proxy_truncates(
    prepared: Prepared, server: FaultyServer, proxy: FaultProxy, tmp_path: Path, check: Check
) -> None:
    """Every connection is cut within its first requests, from then on."""
    campaign = prepared.at(tmp_path / "run", proxy.url)
    campaign.go(after(server, SHARE, prepared.hits), lambda: proxy.behave(close_after=1_000_000))
    check("proxy: cuts after 1 MB", campaign)
    assert campaign.failures["unavailable"] > 0


def test_proxy_resets(
    prepared: Prepared, server: FaultyServer, proxy: FaultProxy, tmp_path: Path, check: Check
) -> None:
    def reset_again_and_again() -> None:
        for _ in range(5):
            proxy.behave(reset=True)
            proxy.behave()
            # Jobs came back to it: twice as much as two jobs can have had under way.
            await_true(after(server, 0.05, prepared.hits))

    campaign = prepared.at(tmp_path / "run", proxy.url)
    campaign.go(after(server, SHARE_BEFORE_MANY, prepared.hits), reset_again_and_again)
    check("proxy: resets all connections five times", campaign)
    assert campaign.failures["unavailable"] > 0


def test_name_that_does_not_resolve(prepared: Prepared, tmp_path: Path, check: Check) -> None:
    url = "grpc://endpoint.invalid:8001"
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("endpoint.invalid", 8001)
    campaign = prepared.at(tmp_path / "run", url)
    campaign.go()
    check("DNS failure", campaign)
    assert {"unavailable", "timeout"}.issuperset(campaign.failures)
    assert any(url in reason for reason in campaign.fallbacks)
    assert campaign.hits_by == {"onnxruntime": prepared.hits, url: 0}


def test_second_endpoint_takes_over(
    prepared: Prepared, server: FaultyServer, repository: Repository, tmp_path: Path, check: Check
) -> None:
    with FaultyServer(repository, tmp_path / "second") as second:
        campaign = prepared.at(tmp_path / "run", server.url, second.url)
        campaign.go(after(server, SHARE / 2, prepared.hits), server.kill)
        check("second endpoint takes over from one that is killed", campaign)
        assert campaign.failures["unavailable"] > 0
        assert set(campaign.hits_by) == {server.url, second.url}, "the CPU is not needed"
        assert campaign.hits_by[second.url] > campaign.hits_by[server.url] > 0


def test_answers_that_are_no_numbers(
    prepared: Prepared, models: dict[str, Path], tmp_path: Path, check: Check
) -> None:
    from random import Random

    random = Random(1)
    with ScriptedServer(models["right"]) as server:
        campaign = prepared.at(tmp_path / "run", server.url)
        campaign.go(
            lambda: sum(call.patches for call in server.received("ModelInfer")) >= SHARE * prepared.hits,
            lambda: server.reply("ModelInfer", lambda answer: not_finite(answer, random)),
        )
    check("answers with NaN or infinity", campaign)
    assert campaign.failures["wrong-answer"] > 0
    assert all(np.isfinite(campaign.run.hits()[name].to_numpy()).all() for name in ("track", "michel"))
