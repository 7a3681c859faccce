"""``protosonic endpoint check`` against real servers: Triton, good and bad, and a stranger's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from integration.faults.certificates import ServerCertificate
from integration.mlserver import MLServer
from integration.serving import ServeProcess, sparse_patches, suspended
from protosonic.errors import ConfigError, ServiceError
from protosonic.inference.client import Client
from protosonic.inference.endpoint_options import EndpointOptions
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.serving.environment import find_or_create_environment
from protosonic.serving.repository import ServedModel, write_repository
from protosonic.serving.server import Ports, TritonServer, choose_ports
from support.campaign import protosonic

NO_LOAD = ("--concurrency", "")


def check(folder: Path, url: str, *arguments: str, expect: int = 0) -> tuple[str, dict[str, Any]]:
    """Run the command; gives what it printed, on one line, and its record."""
    record = folder / "record.json"
    printed = protosonic(
        "endpoint", "check", url, "--seconds", "0.5", "--json", str(record), *arguments, expect=expect
    )
    return " ".join(printed.split()), json.loads(record.read_text())


def steps(record: dict[str, Any]) -> dict[str, bool | None]:
    return {step["name"]: step["passed"] for step in record["steps"]}


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[str]:
    """A server that nobody should run: small batches, a queue of one, no dynamic batching for the other model."""
    folder = tmp_path_factory.mktemp("small")
    repository = folder / "repository"
    served = ServedModel(max_batch_size=100, max_queue_size=1, queue_timeout_s=0)
    write_repository(repository, model, served)
    config = write_repository(repository, model, ServedModel("plain")) / "config.pbtxt"
    text = config.read_text()
    start, end = text.index("dynamic_batching {"), text.index("# The first calls")
    config.write_text((text[:start] + text[end:]).replace("version_policy", "# version_policy"))
    ports = choose_ports(Ports(0, 0, 0))
    environment, log = find_or_create_environment(), folder / "server.log"
    with TritonServer(environment, repository, ports, log) as server:
        server.wait_until_ready()
        yield server.url


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[str]:
    """MLServer as it comes."""
    with MLServer(tmp_path_factory.mktemp("stranger"), model) as server:
        yield server.url


def test_a_good_endpoint_passes_and_is_measured(tmp_path: Path, serve: ServeProcess) -> None:
    printed, record = check(tmp_path, serve.url, "--concurrency", "1,3")
    assert "The endpoint can serve." in printed
    assert record["can_serve"]
    assert set(steps(record).values()) == {True}
    assert list(steps(record))[-2:] == ["golden check", "request size"]
    assert record["server"] == "triton"
    assert record["deviation"] <= 1e-5
    assert record["setup"]["dynamic_batching"]
    assert (record["setup"]["max_batch_size"], record["setup"]["max_queue_size"]) == (2048, 256)
    assert record["setup"]["instances"] == ["1 × CPU"]
    assert record["request_patches"] == 512
    assert [point["concurrency"] for point in record["load"]] == [1, 3]
    for point in record["load"]:
        assert point["requests"] >= point["concurrency"]
        assert 0 < point["p50_s"] <= point["p95_s"]
        assert point["patches_per_s"] == pytest.approx(512 * point["requests"] / point["seconds"])
        assert 0 < point["compute_s"] < point["p95_s"]
        assert point["failures"] == {}


def test_what_a_facility_should_change_is_said(tmp_path: Path, small_server: str) -> None:
    printed, record = check(tmp_path, small_server, "--concurrency", "1,6")
    assert record["can_serve"]
    assert "Raise max_batch_size from 100" in printed
    assert "Set default_timeout_microseconds" in printed
    assert record["request_patches"] == 100
    crowd = record["load"][1]
    assert crowd["failures"]["overload"] > 0
    assert crowd["requests"] > 0
    assert "requests were turned away with 6 in flight" in printed


def test_missing_dynamic_batching_and_versions_are_noticed(tmp_path: Path, small_server: str) -> None:
    _, record = check(tmp_path, small_server, "--name", "plain", "--version", "", *NO_LOAD)
    advice = " ".join(record["advice"])
    assert "Turn dynamic batching on" in advice
    assert "List the versions" in advice
    assert "Ask for a version" in advice
    assert record["load"] == []


def test_another_model_under_the_right_name_is_refused(
    tmp_path: Path, serve: ServeProcess, linear_model: Path
) -> None:
    arguments = ("--model-file", str(linear_model))
    printed, record = check(tmp_path, serve.url, *arguments, expect=ServiceError.exit_code)
    assert not record["can_serve"]
    assert record["failure"] == "wrong-model"
    assert record["deviation"] > 1e-2
    assert steps(record)["golden check"] is False
    assert "Another model is served" in printed
    assert record["load"] == []


@pytest.mark.parametrize(
    ("name", "version", "step"),
    [("emtrkmichel", "9", "model ready"), ("zebra", "1", "model ready"), ("emtrkmichel", "1", "contract")],
)
def test_a_model_that_is_not_there_or_not_right_is_named(
    tmp_path: Path, serve: ServeProcess, odd_server: str, name: str, version: str, step: str
) -> None:
    url, name = (serve.url, name) if step == "model ready" else (odd_server, "wide")
    arguments = ("--name", name, "--version", version)
    printed, record = check(tmp_path, url, *arguments, expect=ServiceError.exit_code)
    assert list(steps(record).items())[-1] == (step, False)
    assert name in record["problem"]
    assert "advice" in printed or step == "contract"


def test_nobody_there_is_an_answer(tmp_path: Path, nobody: str) -> None:
    printed, record = check(tmp_path, nobody, expect=ServiceError.exit_code)
    assert record["failure"] == "unavailable"
    assert steps(record) == {"reachable": False}
    assert "Nothing that speaks gRPC answers there" in printed


def test_a_server_that_hangs_is_an_answer(tmp_path: Path, serve: ServeProcess) -> None:
    with suspended(serve.server):
        printed, record = check(tmp_path, serve.url, expect=ServiceError.exit_code)
    assert record["failure"] in {"timeout", "unavailable"}
    assert steps(record) == {"reachable": False}
    assert "hangs" in printed


@pytest.mark.parametrize("url", ["127.0.0.1:8001", "http://h:1", "grpc://user:password@h:1"])
def test_what_is_no_url_of_an_endpoint_is_a_mistake_of_the_caller(url: str) -> None:
    assert "grpc://HOST:PORT" in protosonic("endpoint", "check", url, expect=ConfigError.exit_code)


@pytest.mark.parametrize(
    "arguments",
    [("--concurrency", "1,zebra"), ("--concurrency", "0"), ("--ca-file", "none.pem"), ("--token-file", "no")],
)
def test_other_mistakes_of_the_caller(serve: ServeProcess, arguments: tuple[str, str]) -> None:
    output = protosonic("endpoint", "check", serve.url, *arguments, expect=ConfigError.exit_code)
    assert arguments[1] in output or "TLS needs" in output


def test_tls_is_checked_and_the_certificate_shown(tmp_path: Path, model: Path) -> None:
    certificate = ServerCertificate.make(tmp_path / "certificates")
    repository = tmp_path / "repository"
    write_repository(repository, model, ServedModel())
    options = [
        "--grpc-use-ssl=1",
        f"--grpc-server-cert={certificate.chain}",
        f"--grpc-server-key={certificate.key}",
        f"--grpc-root-cert={certificate.authority}",
    ]
    ports = choose_ports(Ports(0, 0, 0))
    environment, log = find_or_create_environment(), tmp_path / "server.log"
    with TritonServer(environment, repository, ports, log, options) as server:
        server.wait_until_ready("emtrkmichel", "1")
        assert server.url.startswith("grpcs://")
        trusted = ("--ca-file", str(certificate.authority))
        printed, record = check(tmp_path, server.url, *trusted, *NO_LOAD)
        assert record["can_serve"]
        assert steps(record)["certificate"] is True
        assert "127.0.0.1" in record["certificate"]["names"]
        assert record["certificate"]["not_after"] in printed
        printed, record = check(tmp_path, server.url, expect=ServiceError.exit_code)
        assert record["failure"] == "tls"
        assert steps(record) == {"certificate": False, "reachable": False}
        assert "certificate" in record["certificate"]["problem"]
        assert "--ca-file" in printed
        plain = server.url.replace("grpcs", "grpc")
        _, record = check(tmp_path, plain, expect=ServiceError.exit_code)
        assert steps(record) == {"reachable": False}


class TestStranger:
    """MLServer speaks the same protocol, but has no configuration and no statistics to ask for."""

    def test_it_can_serve_and_what_it_does_not_tell_is_said(self, tmp_path: Path, stranger: str) -> None:
        printed, record = check(tmp_path, stranger, "--concurrency", "1,2")
        assert record["can_serve"]
        assert record["server"] == "mlserver"
        assert record["deviation"] <= 1e-5
        assert steps(record)["admission"] is True
        assert steps(record)["configuration"] is None
        assert record["setup"] is None
        assert "mlserver does not tell how it runs the model" in printed
        for point in record["load"]:
            assert point["requests"] > 0
            assert (point["queue_s"], point["compute_s"]) == (None, None)

    def test_its_limit_on_messages_is_found(self, tmp_path: Path, stranger: str) -> None:
        """gRPC's own default of 4 MiB is less than a request of 512 patches."""
        _, record = check(tmp_path, stranger, "--concurrency", "1")
        assert record["request_patches"] == 256
        assert steps(record)["request size"] is False
        assert "Raise the limit on message sizes" in " ".join(record["advice"])

    def test_the_client_scores_with_it_all_the_same(self, stranger: str, model: Path) -> None:
        patches = sparse_patches(1200, seed=3)
        with Client(EndpointOptions(stranger, "emtrkmichel", "1"), model) as client:
            scores = client.infer(patches)
            assert client.describe().version == "1"
        expected = OnnxRuntimeBackend(model, threads=1).infer(patches)
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)

    def test_a_version_that_it_does_not_have_is_named(self, tmp_path: Path, stranger: str) -> None:
        _, record = check(tmp_path, stranger, "--version", "9", expect=ServiceError.exit_code)
        assert "version 9 not found" in record["problem"]
        assert record["failure"] == "unknown-model"
        assert steps(record)["model ready"] is False

    def test_with_a_higher_limit_it_takes_full_requests(self, tmp_path: Path, model: Path) -> None:
        with MLServer(tmp_path / "server", model, grpc_max_message_length=2**31 - 1) as server:
            _, record = check(tmp_path, server.url, "--concurrency", "2")
        assert record["request_patches"] == 512
        assert set(steps(record).values()) == {True, None}
