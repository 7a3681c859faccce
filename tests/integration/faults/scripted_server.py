"""A server of the KServe v2 gRPC protocol that answers as a script says."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from integration.faults.certificates import ServerCertificate
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend

ADDRESS = "127.0.0.1"
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
A_YEAR_S = 365 * 86400
OUTPUTS = {"em_trk_none_netout": 3, "michel_netout": 1}


@dataclass(frozen=True)
class Failure:
    """An answer that is none: a gRPC status and a message."""

    status: grpc.StatusCode
    message: str = ""


Reply = Failure | Callable[[Any], Any]
"""What is answered: a failure, or what a function makes of the right answer."""


@dataclass(frozen=True)
class Received:
    """A call that came.

    Attributes
    ----------
    rpc
        Its name, such as ``ModelInfer``.
    deadline_s
        Seconds that the client was ready to wait; ``None`` where it would have waited for ever.
    metadata
        What came with it.
    patches
        Patches in an inference request.
    """

    rpc: str
    deadline_s: float | None
    metadata: dict[str, str]
    patches: int = 0


class ScriptedServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Serves a model, and answers otherwise where the script says so.

    Parameters
    ----------
    model
        ONNX file that meets the contract.
    name, version
        What it is served as.
    max_batch_size
        What the configuration says.
    token
        Where it is given, calls without it are refused.
    certificate
        For TLS.
    client_certificates
        Whether clients must have a certificate too.

    Attributes
    ----------
    url
        Where it listens.
    token
        May be changed.
    calls
        What came, in order.
    """

    def __init__(
        self,
        model: Path,
        *,
        name: str = "emtrkmichel",
        version: str = "1",
        max_batch_size: int = 1024,
        token: str | None = None,
        certificate: ServerCertificate | None = None,
        client_certificates: bool = False,
    ) -> None:
        self.token = token
        self.calls: list[Received] = []
        self._name = name
        self._version = version
        self._max_batch_size = max_batch_size
        self._model = OnnxRuntimeBackend(model, threads=1)
        self._once: defaultdict[str, deque[Reply]] = defaultdict(deque)
        self._always: dict[str, Reply] = {}
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(16), options=UNLIMITED)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        if certificate is None:
            port = self._server.add_insecure_port(f"{ADDRESS}:0")
        else:
            credentials = grpc.ssl_server_credentials(
                [(certificate.key.read_bytes(), certificate.chain.read_bytes())],
                certificate.authority.read_bytes() if client_certificates else None,
                client_certificates,
            )
            port = self._server.add_secure_port(f"{ADDRESS}:0", credentials)
        self.url = f"grpc{'s' if certificate else ''}://{ADDRESS}:{port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(0).wait()

    def reply(self, rpc: str, reply: Reply, *, times: int | None = None) -> None:
        """Answer the next calls of an RPC so; all of them, until told otherwise, by default."""
        with self._lock:
            if times is None:
                self._always[rpc] = reply
            else:
                self._once[rpc].extend([reply] * times)

    def reply_rightly(self) -> None:
        """Forget the script."""
        with self._lock:
            self._once.clear()
            self._always.clear()

    def received(self, rpc: str) -> list[Received]:
        """The calls of an RPC that came."""
        with self._lock:
            return [call for call in self.calls if call.rpc == rpc]

    def _answer(self, rpc: str, context: grpc.ServicerContext, right: Callable[[], Any], n: int = 0) -> Any:
        metadata = {key: str(value) for key, value in context.invocation_metadata()}
        remaining = context.time_remaining()
        # gRPC makes the end of time of a call without a deadline.
        deadline_s = None if remaining is None or remaining > A_YEAR_S else remaining
        with self._lock:
            self.calls.append(Received(rpc, deadline_s, metadata, n))
            waiting = self._once[rpc]
            reply = waiting.popleft() if waiting else self._always.get(rpc)
        if self.token is not None and metadata.get("authorization") != f"Bearer {self.token}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "Jwt is expired")
        if isinstance(reply, Failure):
            context.abort(reply.status, reply.message)
        answer = right()
        return answer if reply is None else reply(answer)

    def _check_model(self, name: str, version: str, context: grpc.ServicerContext) -> None:
        if name != self._name:
            message = f"Request for unknown model: '{name}' is not found"
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)
        if version not in {"", self._version}:
            message = f"Request for unknown model: '{name}' version {version} is not found"
            context.abort(grpc.StatusCode.NOT_FOUND, message)

    def ServerLive(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._answer("ServerLive", context, lambda: service_pb2.ServerLiveResponse(live=True))

    def ServerReady(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._answer("ServerReady", context, lambda: service_pb2.ServerReadyResponse(ready=True))

    def ServerMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def right() -> Any:
            return service_pb2.ServerMetadataResponse(name="scripted", version="0")

        return self._answer("ServerMetadata", context, right)

    def RepositoryIndex(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def right() -> Any:
            entry = {"name": self._name, "version": self._version, "state": "READY"}
            return service_pb2.RepositoryIndexResponse(models=[entry])

        return self._answer("RepositoryIndex", context, right)

    def ModelReady(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def right() -> Any:
            is_ready = request.name == self._name and request.version in {"", self._version}
            return service_pb2.ModelReadyResponse(ready=is_ready)

        return self._answer("ModelReady", context, right)

    def ModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def right() -> Any:
            self._check_model(request.name, request.version, context)
            tensor = service_pb2.ModelMetadataResponse.TensorMetadata
            return service_pb2.ModelMetadataResponse(
                name=self._name,
                versions=[self._version],
                inputs=[tensor(name="main_input", datatype="FP32", shape=[-1, 48, 48, 1])],
                outputs=[
                    tensor(name=name, datatype="FP32", shape=[-1, width]) for name, width in OUTPUTS.items()
                ],
            )

        return self._answer("ModelMetadata", context, right)

    def ModelConfig(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def right() -> Any:
            self._check_model(request.name, request.version, context)
            config = {"name": self._name, "max_batch_size": self._max_batch_size}
            return service_pb2.ModelConfigResponse(config=config)

        return self._answer("ModelConfig", context, right)

    def ModelStatistics(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def right() -> Any:
            requests = len(self.received("ModelInfer"))
            times = {"success": {"count": requests, "ns": requests * 10**6}}
            statistics = {"name": self._name, "version": self._version, "inference_stats": times}
            return service_pb2.ModelStatisticsResponse(model_stats=[statistics])

        return self._answer("ModelStatistics", context, right)

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def right() -> Any:
            self._check_model(request.model_name, request.model_version, context)
            if n > self._max_batch_size:
                message = f"inference request batch-size must be <= {self._max_batch_size} for '{self._name}'"
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)
            return self._response(request, n)

        n = int(request.inputs[0].shape[0])
        return self._answer("ModelInfer", context, right, n)

    def _response(self, request: Any, n: int) -> Any:
        patches = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(n, 48, 48)
        with self._lock:
            scores = self._model.infer(patches)
        return response(
            {"em_trk_none_netout": scores[:, [0, 1, 2]], "michel_netout": scores[:, [3]]},
            name=self._name,
            version=self._version,
            identity=request.id,
        )


def response(
    outputs: dict[str, NDArray[np.float32]],
    *,
    name: str = "emtrkmichel",
    version: str = "1",
    identity: str = "",
) -> Any:
    """An answer as Triton writes it: name of the output → array."""
    answer = service_pb2.ModelInferResponse(model_name=name, model_version=version, id=identity)
    for output, values in outputs.items():
        answer.outputs.add(name=output, datatype="FP32", shape=values.shape)
        answer.raw_output_contents.append(np.ascontiguousarray(values, np.float32).tobytes())
    return answer
