"""Real Triton servers that can be killed, stopped, slowed down, and have their models changed while they run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from integration.faults.certificates import ServerCertificate
from integration.serving import await_true
from protosonic.serving.environment import find_or_create_environment, tied_to_this_process
from protosonic.serving.server import ADDRESS, Ports, choose_ports

NAME = "emtrkmichel"
VERSION = "1"
CALL_TIMEOUT_S = 30.0
THROTTLED_MODEL = Path(__file__).with_name("throttled_model.py")

CONFIG = """
name: "{name}"
backend: "python"
max_batch_size: {max_batch_size}
input {{ name: "main_input" data_type: TYPE_FP32 dims: [ 48, 48, 1 ] }}
output {{ name: "em_trk_none_netout" data_type: TYPE_FP32 dims: [ {width} ] }}
output {{ name: "michel_netout" data_type: TYPE_FP32 dims: [ 1 ] }}
instance_group {{ kind: KIND_CPU count: {instances} }}
dynamic_batching {{ default_queue_policy {{ max_queue_size: {max_queue_size} }} }}
"""


class Repository:
    """A model repository of one model, whose contents tests change.

    Parameters
    ----------
    folder
        Where it is written.
    model, other
        ONNX files with the outputs (em, track, none) and michel in this order: what is served, and what is served
        after ``other_after`` calls.
    width
        Columns of the first output, in the configuration.
    max_batch_size, max_queue_size, instances
        As in Triton's configuration; 0 leaves the queue unbounded.
    """

    def __init__(
        self,
        folder: Path,
        model: Path,
        *,
        other: Path | None = None,
        width: int = 3,
        max_batch_size: int = 1024,
        max_queue_size: int = 0,
        instances: int = 1,
    ) -> None:
        self.folder = folder
        self._version = folder / NAME / VERSION
        self._version.mkdir(parents=True)
        shutil.copyfile(THROTTLED_MODEL, self._version / "model.py")
        shutil.copyfile(other or model, self._version / "other.onnx")
        self._sizes = {
            "max_batch_size": max_batch_size,
            "max_queue_size": max_queue_size,
            "instances": instances,
        }
        self.control()
        self.replace(model, width=width)

    def control(self, **values: float) -> None:
        """Tell the model how to behave from its next call on; see ``throttled_model.py``."""
        part = self._version / "control.part"
        part.write_text(json.dumps(values))
        part.rename(self._version / "control.json")

    def replace(self, model: Path, *, width: int = 3, **sizes: int) -> None:
        """Put another file in the place of the model, and other sizes until the next time; the server has to load it."""
        shutil.copyfile(model, self._version / "model.onnx")
        config = CONFIG.format(name=NAME, width=width, **self._sizes | sizes)
        (self.folder / NAME / "config.pbtxt").write_text(config)


class FaultyServer:
    """A Triton server on fixed ports; ready after :meth:`start`, gone after the context.

    Parameters
    ----------
    repository
        The model repository.
    folder
        Gets the log.
    certificate
        For TLS.

    Attributes
    ----------
    url
        URL of the endpoint, the same after every start.
    certificate
        May be changed; counts from the next start on.
    """

    def __init__(
        self, repository: Repository, folder: Path, *, certificate: ServerCertificate | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.repository = repository
        self.ports = choose_ports(Ports(0, 0, 0))
        self.url = f"grpc{'s' if certificate else ''}://{ADDRESS}:{self.ports.grpc}"
        self._log = folder / "server.log"
        self.certificate = certificate
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self, *, wait: bool = True) -> None:
        """Start it; wait until the model is ready."""
        environment = find_or_create_environment()
        names = zip(("grpc", "http", "metrics"), self.ports, strict=True)
        command = [
            str(environment.binary),
            f"--model-repository={self.repository.folder}",
            f"--backend-directory={environment.backends}",
            "--model-control-mode=explicit",
            f"--load-model={NAME}",
            "--metrics-interval-ms=100",
            *(
                option
                for name, port in names
                for option in (f"--{name}-port={port}", f"--{name}-address={ADDRESS}")
            ),
        ]
        if self.certificate:
            command += [
                "--grpc-use-ssl=true",
                f"--grpc-server-cert={self.certificate.chain}",
                f"--grpc-server-key={self.certificate.key}",
                f"--grpc-root-cert={self.certificate.authority}",
            ]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                tied_to_this_process(command),
                env=environment.variables(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if wait:
            await_true(self.is_ready)

    def kill(self) -> None:
        """SIGKILL: the server and its helpers are gone when this returns."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """SIGTERM: it finishes what it works on, and refuses what comes."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait()
        self.kill()

    @property
    def process(self) -> psutil.Process:
        """The server's process, to be suspended."""
        assert self._process is not None
        return psutil.Process(self._process.pid)

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def is_ready(self) -> bool:
        """Whether the model can be used; an error when the server has ended."""
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text(errors="replace")[-4000:]
        try:
            self.metric("")  # the last port that it opens
            with self.client() as client:
                return bool(client.is_model_ready(NAME, client_timeout=CALL_TIMEOUT_S))
        except (InferenceServerException, OSError):
            return False

    def client(self) -> triton.InferenceServerClient:
        """A plain client of NVIDIA's library."""
        address = f"{ADDRESS}:{self.ports.grpc}"
        if self.certificate is None:
            return triton.InferenceServerClient(address)
        return triton.InferenceServerClient(
            address, ssl=True, root_certificates=str(self.certificate.authority)
        )

    def load(self) -> None:
        """Load the model, anew if it is loaded."""
        with self.client() as client:
            client.load_model(NAME, client_timeout=CALL_TIMEOUT_S)

    def unload(self) -> None:
        """Unload the model; it is not ready any more when this returns."""
        with self.client() as client:
            client.unload_model(NAME, client_timeout=CALL_TIMEOUT_S)
        await_true(lambda: not self.is_ready())

    def metric(self, name: str) -> float:
        """The sum over labels of one of the server's metrics."""
        url = f"http://{ADDRESS}:{self.ports.metrics}/metrics"
        with urllib.request.urlopen(url, timeout=CALL_TIMEOUT_S) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{"))

    @property
    def scored(self) -> int:
        """Patches that it has scored since its start."""
        return int(self.metric("nv_inference_count"))

    @property
    def pending(self) -> int:
        """Requests that wait in its queue."""
        return int(self.metric("nv_inference_pending_request_count"))
