"""Runs the genuine Triton server on this machine, in the foreground."""

from __future__ import annotations

import http.client
import logging
import os
import re
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, Self

from protosonic.errors import ServiceError
from protosonic.inference.endpoint_options import IMAGE_SUFFIX
from protosonic.serving.environment import ServerEnvironment, find_or_create_environment, tied_to_this_process
from protosonic.serving.repository import PAYLOADS, warn_if_untrained, write_repository
from protosonic.serving.run_folder import run_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from protosonic.serving.repository import ServedModel

__all__ = ["Ports", "TritonServer", "choose_ports", "serve_model"]

ADDRESS = "127.0.0.1"
"""The only address that is listened on: whoever reaches a Triton server may use it."""
READY_TIMEOUT_S = 300.0
CHECK_TIMEOUT_S = 2.0
IN_FLIGHT_TIMEOUT_S = 10
STOP_TIMEOUT_S = 20.0
"""Batch systems kill 30 s after they have asked to stop; all must be over by then."""
POLL_S = 0.1

log = logging.getLogger(__name__)


class Ports(NamedTuple):
    """TCP ports; 0 stands for any free one."""

    grpc: int = 8001
    http: int = 8000
    metrics: int = 8002


def serve_model(
    model: Path | None, served: ServedModel, ports: Ports, on_ready: Callable[[str], None]
) -> None:
    """Serve a model for patches and for images until SIGTERM or SIGINT comes.

    Parameters
    ----------
    model
        ONNX file that meets the model contract; the bundled model by default.
    served
        How to serve it.
    ports
        Where to listen.
    on_ready
        Gets the URL of the endpoint as soon as the model can be used.

    Raises
    ------
    ModelError
        The file does not meet the model contract.
    ServiceError
        The server cannot be installed or started, or has ended by itself.
    """
    environment = find_or_create_environment()
    with _stop_signals() as stopped, run_folder() as folder:
        repository = folder / "repository"
        warn_if_untrained(model)
        for payload in PAYLOADS:
            write_repository(repository, model, served, payload=payload)
        with TritonServer(environment, repository, choose_ports(ports), folder / "server.log") as server:
            for suffix in ("", IMAGE_SUFFIX):
                server.wait_until_ready(served.name + suffix, served.version, stopped)
            if not stopped():
                on_ready(server.url)
            server.wait(stopped)


def _never() -> bool:
    return False


class TritonServer:
    """A server that runs; a context manager that stops it at the end.

    Parameters
    ----------
    environment
        The installed server.
    repository
        The model repository; every model in it is loaded.
    ports
        Free ports.
    log_file
        Gets what the server and its models print.
    options
        More options of ``tritonserver``, such as ``--model-control-mode=explicit``, ``--grpc-use-ssl=1`` with the files
        of certificates, or ``--grpc-infer-allocation-pool-size=0``.

    Attributes
    ----------
    url
        URL of the endpoint.
    http_url, metrics_url
        URLs of the HTTP endpoint and of the metrics.
    pid
        Process of the server.
    log_file
        As given.
    """

    def __init__(
        self,
        environment: ServerEnvironment,
        repository: Path,
        ports: Ports,
        log_file: Path,
        options: Sequence[str] = (),
    ) -> None:
        uses_tls = any(re.fullmatch(r"--grpc-use-ssl(-mutual)?=(1|true)", option) for option in options)
        self.url = f"grpc{'s' if uses_tls else ''}://{ADDRESS}:{ports.grpc}"
        self.http_url = f"http://{ADDRESS}:{ports.http}"
        self.metrics_url = f"http://{ADDRESS}:{ports.metrics}/metrics"
        self._http_port = ports.http
        self.log_file = log_file
        command = [
            str(environment.binary),
            f"--model-repository={repository}",
            f"--backend-directory={environment.backends}",
            f"--grpc-address={ADDRESS}",
            f"--http-address={ADDRESS}",
            f"--metrics-address={ADDRESS}",
            f"--grpc-port={ports.grpc}",
            f"--http-port={ports.http}",
            f"--metrics-port={ports.metrics}",
            f"--exit-timeout-secs={IN_FLIGHT_TIMEOUT_S}",
            *options,
        ]
        log.info("the Triton server writes its log to %s", log_file)
        with log_file.open("wb") as output:
            # In a session of its own Ctrl-C does not reach it: we alone end it, and its helpers with it.
            self._process = subprocess.Popen(
                tied_to_this_process(command),
                env=environment.variables(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait_until_ready(
        self, model: str | None = None, version: str = "", stopped: Callable[[], bool] = _never
    ) -> None:
        """Wait until a model can be used, or until `stopped` says to stop waiting.

        Parameters
        ----------
        model, version
            The model; without it the server must be ready with all models that it was told to load.
        stopped
            Says whether to stop waiting.

        Raises
        ------
        ServiceError
            The server has ended, or the model is not ready in :data:`READY_TIMEOUT_S`.
        """
        path = "/v2/health/ready"
        if model is not None:
            path = f"/v2/models/{model}{f'/versions/{version}' if version else ''}/ready"
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not stopped():
            self._check_alive()
            # HTTP is opened after gRPC, and needs no certificates on this machine.
            found = _http_status(self._http_port, path)
            if found == "200":
                return
            if time.monotonic() > deadline:
                raise ServiceError(
                    "the Triton server is not ready in time",
                    file=self.log_file,
                    expected=f"at most {READY_TIMEOUT_S:g} s",
                    found=f"{path}: {found}",
                )
            time.sleep(POLL_S)

    def wait(self, stopped: Callable[[], bool] = _never) -> None:
        """Wait until `stopped` says to stop waiting.

        Raises
        ------
        ServiceError
            The server has ended.
        """
        while not stopped():
            self._check_alive()
            time.sleep(POLL_S)

    def stop(self) -> None:
        """End the server and its helpers; requests in flight may finish."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            log.warning("the Triton server does not stop and is killed")
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _check_alive(self) -> None:
        code = self._process.poll()
        if code is not None:
            how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
            raise ServiceError(
                "the Triton server has ended",
                file=self.log_file,
                found="\n".join([f"{how}; its log says:", *_last_words(self.log_file)]),
            )


def choose_ports(wanted: Ports) -> Ports:
    """Replace every 0 by a free port.

    Raises
    ------
    ServiceError
        A port cannot be listened on.
    """
    chosen = []
    with ExitStack() as stack:
        # All are held until the last is chosen, so that they differ.
        for kind, port in wanted._asdict().items():
            listener = stack.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((ADDRESS, port))
                listener.listen()
            except OSError as error:
                raise ServiceError(
                    f"the {kind} port cannot be used",
                    where=f"{ADDRESS}:{port}",
                    found=error.strerror,
                    hint=f"Choose another with --{kind}-port; 0 takes any free one",
                ) from error
            chosen.append(listener.getsockname()[1])
    return Ports(*chosen)


def _http_status(port: int, path: str) -> str:
    """Ask the server by HTTP; gives the status code, or what went wrong."""
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=CHECK_TIMEOUT_S)
    try:
        connection.request("GET", path)
        return str(connection.getresponse().status)
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        connection.close()


def _last_words(log_file: Path) -> list[str]:
    """Choose the lines of a server's log that say why it ended: all but tables, information and warnings."""
    text = log_file.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip() and line[0] not in "|+"]
    return [line for line in lines if not re.match(r"[IW]\d{4} ", line)][-20:] or lines[-5:]


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Note SIGTERM and SIGINT instead of dying of them; yields what says whether one has come.

    The handler raises nothing: an exception that strikes while an object is deleted would be lost.
    """
    received: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda number, _: received.append(number)) for number in numbers}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
