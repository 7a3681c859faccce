"""``protosonic serve``: how it starts, fails and ends."""

from __future__ import annotations

import signal
import socket
import tempfile
from pathlib import Path

import psutil
import pytest
import tritonclient.grpc as triton

from integration.serving import ServeProcess, await_true
from protosonic.errors import ConfigError, ModelError, ServiceError
from protosonic.serving.environment import find_or_create_environment
from protosonic.serving.repository import ServedModel, write_repository
from protosonic.serving.run_folder import run_folder
from protosonic.serving.server import Ports, TritonServer, choose_ports
from support.campaign import protosonic
from support.models import linear_weights, write_linear_model


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_stop_ends_it_cleanly_and_nothing_remains(
    tmp_path: Path, linear_model: Path, number: signal.Signals
) -> None:
    arguments = ["--model", str(linear_model), "--name", "other", "--version", "7"]
    with ServeProcess(tmp_path, *arguments) as serve:
        assert len(serve.tree) >= 2, "the server and the helper that runs the model"
        serve.process.send_signal(number)
        assert serve.end() == (0, "")
        await_true(serve.is_gone)
    assert list(serve.temporary.glob("protosonic-*")) == []


def test_it_is_tuned_on_the_command_line(tmp_path: Path, linear_model: Path) -> None:
    arguments = ["--instances", "2", "--threads", "1", "--max-batch-size", "64", "--max-queue-size", "3"]
    with ServeProcess(tmp_path, "--model", str(linear_model), *arguments) as serve:
        with triton.InferenceServerClient(serve.url.removeprefix("grpc://")) as client:
            config = client.get_model_config("emtrkmichel", "1", client_timeout=60).config
        assert config.instance_group[0].count == 2
        assert config.parameters["threads"].string_value == "1"
        assert config.max_batch_size == 64
        assert config.dynamic_batching.default_queue_policy.max_queue_size == 3


def test_it_leaves_no_orphan_when_it_is_killed_and_the_next_one_clears_up(
    tmp_path: Path, linear_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ServeProcess(tmp_path, "--model", str(linear_model)) as serve:
        serve.process.kill()
        code, _ = serve.end()
        assert code == -signal.SIGKILL
        await_true(serve.is_gone)
    temporary = serve.temporary
    [left] = temporary.glob("protosonic-*")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with run_folder() as folder:
        assert list(temporary.glob("protosonic-*")) == [folder]
        assert left != folder
        with run_folder() as other:
            assert set(temporary.glob("protosonic-*")) == {folder, other}, "what is in use stays"
    assert list(temporary.glob("protosonic-*")) == []


def test_only_this_machine_can_reach_it(serve: ServeProcess) -> None:
    def addresses() -> list[str]:
        connections = serve.server.net_connections("tcp")
        return [c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN]

    # The ports for HTTP and metrics are opened after that for gRPC.
    await_true(lambda: len(addresses()) == 3)
    assert {address.removeprefix("::ffff:") for address in addresses()} == {"127.0.0.1"}


def test_the_log_of_the_server_is_named_and_says_that_the_model_is_ready(serve: ServeProcess) -> None:
    [line] = [line for line in serve.errors().splitlines() if "writes its log to" in line]
    assert "READY" in Path(line.rpartition(" ")[2]).read_text()
    assert "untrained" not in serve.errors()


def test_the_reason_is_told_when_the_server_ends(tmp_path: Path, linear_model: Path) -> None:
    repository = tmp_path / "repository"
    write_repository(repository, linear_model, ServedModel())
    (repository / "emtrkmichel" / "1" / "model.py").write_text("raise RuntimeError('broken on purpose')\n")
    environment = find_or_create_environment()
    log_file = tmp_path / "server.log"
    ports = choose_ports(Ports(0, 0, 0))
    with (
        TritonServer(environment, repository, ports, log_file) as server,
        pytest.raises(ServiceError, match="broken on purpose") as caught,
    ):
        server.wait_until_ready("emtrkmichel", "1")
    assert str(log_file) in str(caught.value)
    assert "exit code 1" in str(caught.value)


def test_a_failure_leaves_only_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def fail() -> None:
        with run_folder() as folder:
            (folder / "server.log").write_text("last words")
            (folder / "repository").mkdir()
            (folder / "repository" / "model.onnx").write_text("large")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    [folder] = tmp_path.iterdir()
    assert [path.name for path in folder.rglob("*")] == ["server.log"]


def test_a_model_outside_the_contract_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    bad = write_linear_model(tmp_path / "bad.onnx", linear_weights(), widths=(4, 1))
    output = protosonic("serve", "--model", str(bad), "--grpc-port", "0", expect=ModelError.exit_code)
    assert "does not meet the contract" in output
    assert str(bad) in output
    assert "writes its log" not in output


@pytest.mark.parametrize(
    ("option", "value"), [("--name", "../escape"), ("--version", "0"), ("--version", "latest")]
)
def test_a_name_or_version_that_triton_cannot_take_is_refused(option: str, value: str) -> None:
    assert value in protosonic("serve", option, value, expect=ConfigError.exit_code)


def test_a_taken_port_is_named(linear_model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        arguments = ["--model", str(linear_model), "--grpc-port", "0", "--http-port", str(port)]
        output = protosonic("serve", *arguments, expect=ServiceError.exit_code)
    assert f"127.0.0.1:{port}: the http port cannot be used" in output
    assert "--http-port" in output


def test_free_ports_differ() -> None:
    ports = choose_ports(Ports(0, 0, 0))
    assert len(set(ports)) == 3
    assert 0 not in ports


def test_a_server_that_cannot_be_installed_is_an_error_and_leaves_no_complete_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ServiceError, match="nvidia-pytriton") as caught:
        find_or_create_environment()
    assert "No matching distribution" in str(caught.value)
    assert not list(tmp_path.rglob(".complete"))
