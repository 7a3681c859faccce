"""A stranger's endpoint: MLServer, another server of the KServe v2 protocol, with a runtime that knows the contract."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

from integration.serving import await_true
from protosonic.serving.package_environment import PackageEnvironment, find_or_create, tied_to_this_process
from protosonic.serving.server import ADDRESS, Ports, choose_ports

RUNTIME = Path(__file__).with_name("mlserver_model")
MLSERVER = "1.7.1"


def mlserver_environment() -> PackageEnvironment:
    """Find MLServer in the user's cache directory, or install it there."""

    def fill(environment: PackageEnvironment) -> None:
        constraints = ["--constraint", str(RUNTIME / "constraints.txt")]
        environment.pip_install(
            *constraints, f"mlserver=={MLSERVER}", f"onnxruntime=={version('onnxruntime')}"
        )

    return find_or_create(f"mlserver-{MLSERVER}", "MLServer", [version("onnxruntime")], fill)


class MLServer:
    """A server with a model; ready inside of the context, gone after it.

    Parameters
    ----------
    folder
        Gets the model's folder and the log.
    model
        ONNX file with the tensor names of the contract.
    settings
        More of MLServer's settings, such as ``grpc_max_message_length``.

    Attributes
    ----------
    url
        URL of the endpoint.
    """

    def __init__(self, folder: Path, model: Path, **settings: object) -> None:
        self._ports = choose_ports(Ports(0, 0, 0))
        self.url = f"grpc://{ADDRESS}:{self._ports.grpc}"
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "mlserver.log"
        environment = mlserver_environment()
        shutil.copytree(RUNTIME, folder / "emtrkmichel")
        shutil.copyfile(model, folder / "emtrkmichel" / "model.onnx")
        fixed = {
            "host": ADDRESS,
            "grpc_port": self._ports.grpc,
            "http_port": self._ports.http,
            "metrics_port": self._ports.metrics,
            "parallel_workers": 0,
            "debug": "false",
        }
        variables = {f"MLSERVER_{key.upper()}": str(value) for key, value in (fixed | settings).items()}
        command = [str(environment.folder / "bin" / "mlserver"), "start", "."]
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                tied_to_this_process(command),
                cwd=folder / "emtrkmichel",
                env=environment.variables() | variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        await_true(self._is_ready)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, self._log.read_text(errors="replace")[-4000:]
        # gRPC is opened last.
        if f"gRPC server running on http://{ADDRESS}:{self._ports.grpc}" not in self._log.read_text():
            return False
        connection = http.client.HTTPConnection(ADDRESS, self._ports.http, timeout=10)
        try:
            connection.request("GET", "/v2/models/emtrkmichel/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()
