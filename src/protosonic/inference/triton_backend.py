"""Inference at an endpoint that speaks the KServe v2 gRPC protocol, such as NVIDIA Triton."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from protosonic.errors import ModelError, ServiceError
from protosonic.inference.contract import ModelTensors, TensorSpec, join_scores

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["EndpointOptions", "RequestStatistics", "TritonBackend"]


@dataclass(frozen=True)
class EndpointOptions:
    """How to reach a model.

    Attributes
    ----------
    url
        ``grpc://HOST:PORT``, or ``grpcs://`` for TLS.
    model, version
        Name and version in the server's repository; an empty version leaves the choice to the server.
    connect_timeout_s
        Deadline of every health and metadata call.
    request_timeout_s
        Deadline of every inference request.
    request_patches
        Most patches in one request; the server's ``max_batch_size`` lowers it.
    """

    url: str
    model: str
    version: str = ""
    connect_timeout_s: float = 5.0
    request_timeout_s: float = 120.0
    request_patches: int = 1024


@dataclass
class RequestStatistics:
    """What went over the wire.

    Attributes
    ----------
    requests
        Number of inference requests that were answered.
    bytes_sent, bytes_received
        Tensor bytes.
    latency_s
        Time from sending to the answer of each request, in seconds.
    """

    requests: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    latency_s: list[float] = field(default_factory=list)


class TritonBackend:
    """Sends patches to an endpoint, one request after the other.

    The constructor proves that the endpoint can serve: it is live, the model and version are ready, and its tensors
    meet the contract. Every call has a deadline.

    Parameters
    ----------
    options
        How to reach the model.

    Raises
    ------
    ServiceError
        The endpoint cannot be reached, is not ready, or serves another kind of model.
    """

    name = "triton"
    concurrency = 1

    def __init__(self, options: EndpointOptions) -> None:
        # gRPC writes every refused connection to standard error unless told otherwise before it is imported.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        import tritonclient.grpc as triton

        self._triton = triton
        self._options = options
        self.url = options.url
        self.statistics = RequestStatistics()
        self.model_version: str | None = None
        scheme, _, address = options.url.partition("://")
        self._client = triton.InferenceServerClient(address, ssl=scheme == "grpcs")
        try:
            self._check_ready()
            self._tensors = self._match_tensors()
            self.batch_size = min(options.request_patches, self._max_batch_size() or options.request_patches)
        except BaseException:
            self.close()
            raise

    @property
    def _what(self) -> str:
        version = f" version {self._options.version}" if self._options.version else ""
        return f"{self._options.url} model {self._options.model}{version}"

    def infer(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute scores; see :class:`protosonic.inference.contract.Backend`."""
        scores = [
            self._request(patches[start : start + self.batch_size])
            for start in range(0, len(patches), self.batch_size)
        ]
        return np.concatenate(scores) if scores else np.empty((0, 4), np.float32)

    def close(self) -> None:
        """Close the channel."""
        self._client.close()

    def _call(
        self, what: str, function: Callable[..., Any], *args: Any, timeout: float, **kwargs: Any
    ) -> Any:
        try:
            return function(*args, client_timeout=timeout, **kwargs)
        except self._triton.InferenceServerException as error:
            raise ServiceError(
                f"{what} failed",
                file=self._what,
                found=f"{error.status() or 'client error'}: {error.message()}",
            ) from error

    def _check_ready(self) -> None:
        model, version, timeout = self._options.model, self._options.version, self._options.connect_timeout_s
        if not self._call("the liveness check", self._client.is_server_live, timeout=timeout):
            raise ServiceError("the server is not live", file=self._what)
        if not self._call(
            "the readiness check", self._client.is_model_ready, model, version, timeout=timeout
        ):
            raise ServiceError(
                "the model is not ready",
                file=self._what,
                hint="Check model.name and model.version, or load the model",
            )

    def _match_tensors(self) -> ModelTensors:
        metadata = self._call(
            "reading the model's metadata",
            self._client.get_model_metadata,
            self._options.model,
            self._options.version,
            timeout=self._options.connect_timeout_s,
        )

        def spec(tensor: Any) -> TensorSpec:
            return TensorSpec(
                tensor.name, tensor.datatype, tuple(n if n >= 0 else None for n in tensor.shape)
            )

        try:
            return ModelTensors.match(
                [spec(tensor) for tensor in metadata.inputs],
                [spec(tensor) for tensor in metadata.outputs],
                what=self._what,
            )
        except ModelError as error:
            raise ServiceError(error.message, file=self._what, hint=error.hint) from error

    def _max_batch_size(self) -> int:
        """Ask for the largest batch; servers other than Triton have no such call, and no limit to tell."""
        try:
            config = self._call(
                "reading the model's configuration",
                self._client.get_model_config,
                self._options.model,
                self._options.version,
                timeout=self._options.connect_timeout_s,
            )
        except ServiceError as error:
            if "UNIMPLEMENTED" in str(error.found):
                return 0
            raise
        return int(config.config.max_batch_size)

    def _request(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        data = np.ascontiguousarray(patches[..., None])
        tensor = self._triton.InferInput(self._tensors.input, data.shape, "FP32")
        tensor.set_data_from_numpy(data)
        names = self._tensors.outputs
        start = time.monotonic()
        answer = self._call(
            "the inference request",
            self._client.infer,
            self._options.model,
            [tensor],
            model_version=self._options.version,
            outputs=[self._triton.InferRequestedOutput(name) for name in names.values()],
            timeout=self._options.request_timeout_s,
        )
        outputs = {}
        for contract_name, name in names.items():
            try:
                output = answer.as_numpy(name)
            except ValueError as error:
                raise ModelError(
                    f"the answer's output {name} has not the size of its shape",
                    file=self._what,
                    found=str(error),
                ) from error
            if output is None:
                raise ModelError(f"the answer lacks output {name}", file=self._what)
            outputs[contract_name] = output
        scores = join_scores(outputs, len(data), what=self._what)
        self.model_version = answer.get_response().model_version
        self.statistics.requests += 1
        self.statistics.bytes_sent += data.nbytes
        self.statistics.bytes_received += sum(output.nbytes for output in outputs.values())
        self.statistics.latency_s.append(time.monotonic() - start)
        return scores
