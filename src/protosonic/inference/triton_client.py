"""One gRPC channel to a server of the KServe v2 protocol; every call has a deadline, every failure a class."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from protosonic.errors import ConfigError, ModelError, ProtosonicError
from protosonic.inference.contract import INPUT_NAME, OUTPUTS, ModelTensors, TensorSpec
from protosonic.inference.credentials import BearerToken
from protosonic.inference.failure_policy import EndpointError, FailureClass, classify
from protosonic.inference.image_payload import IMAGE_INPUTS, ImageHits, PlaneHits, is_image_model
from protosonic.inference.reply import read_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from protosonic.inference.endpoint_options import EndpointOptions
    from protosonic.inference.failure_policy import Calls
    from protosonic.inference.golden import Reference
    from protosonic.inference.hits import HitBatch

__all__ = ["Answer", "Call", "Request", "ServerTimes", "TritonClient"]

MOST_MESSAGE_BYTES = 2**31 - 1
"""What protobuf allows; gRPC's own default of 4 MB is too little."""


@dataclass(frozen=True)
class Request:
    """A prepared inference request.

    Attributes
    ----------
    n_patches
        Rows of the answer.
    n_bytes
        Bytes of its tensors.
    message
        What is sent, an ``inference.ModelInferRequest``.
    order
        Which hit each row of the answer, canaries left out, belongs to, int [n]; ``None`` where rows are in the order
        of the hits.
    n_pixels
        Pixels of the canvas, of which a server takes ``MOST_CANVAS``; 0 for patches.
    """

    n_patches: int
    n_bytes: int
    message: Any
    order: NDArray[np.int64] | None = None
    n_pixels: int = 0


class Answer(NamedTuple):
    """What came back.

    Attributes
    ----------
    scores
        float32 [n, 4], columns :data:`protosonic.inference.contract.SCORE_NAMES`; all are finite.
    model_version
        The version that computed them.
    n_bytes
        Bytes of the tensors that were received.
    seconds
        Time from sending to the answer.
    """

    scores: NDArray[np.float32]
    model_version: str
    n_bytes: int
    seconds: float


class ServerTimes(NamedTuple):
    """What a server says of a model since it was loaded, over all its clients.

    Attributes
    ----------
    requests
        Number of successful requests.
    queue_s, compute_s
        Sum over these of the time that they waited, and of the time that they were worked on, in seconds.
    """

    requests: int
    queue_s: float
    compute_s: float


class Call:
    """A request that is under way.

    Attributes
    ----------
    sent_at
        When it was sent, by :func:`time.monotonic`.
    headers
        What was sent as metadata.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.sent_at = time.monotonic()
        self.headers = headers
        self._context: Any = None
        self._is_cancelled = False
        self._lock = threading.Lock()

    def cancel(self) -> None:
        """Give the request up; its callback is still called, once."""
        with self._lock:
            self._is_cancelled = True
            context = self._context
        if context is not None:
            context.cancel()

    def _attach(self, context: Any) -> None:
        with self._lock:
            self._context = context
            is_cancelled = self._is_cancelled
        if is_cancelled:
            context.cancel()


class TritonClient:
    """A client of one endpoint, over one long-lived channel.

    Nothing is sent before the first call. Threads may share it; processes may not, because gRPC does not survive a
    fork: make it after that.

    Parameters
    ----------
    options
        How to reach the model.

    Raises
    ------
    ConfigError
        A file of certificates or the token cannot be read.
    """

    def __init__(self, options: EndpointOptions) -> None:
        # gRPC writes every refused connection to standard error unless told otherwise before it is imported.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        import grpc
        from tritonclient.grpc import service_pb2, service_pb2_grpc

        self.options = options
        self.was_ready = False
        """Whether the model has been ready once: set by whoever has checked it."""
        self.tensors = ModelTensors(INPUT_NAME, {name: name for name in OUTPUTS})
        self.takes_images = False
        """Whether the model takes images instead of patches; known when its tensors are read."""
        self._grpc = grpc
        self._messages = service_pb2
        self._pid = os.getpid()
        self._token = (
            BearerToken(options.token_file, options.token_env)
            if options.token_file or options.token_env
            else None
        )
        arguments = [
            ("grpc.max_send_message_length", MOST_MESSAGE_BYTES),
            ("grpc.max_receive_message_length", MOST_MESSAGE_BYTES),
            # A new client is a new connection: otherwise channels to one address share a dead one.
            ("grpc.use_local_subchannel_pool", 1),
            # Where a name has several addresses, one connection must not pin this job to one server.
            ("grpc.lb_policy_name", "round_robin"),
            ("grpc.initial_reconnect_backoff_ms", 250),
            # Also how long one attempt to connect may take.
            ("grpc.min_reconnect_backoff_ms", int(1000 * options.connect_timeout_s)),
            ("grpc.max_reconnect_backoff_ms", 5000),
            # What is tried again is decided in one place, and it is not here.
            ("grpc.enable_retries", 0),
        ]
        if options.uses_tls:
            files = (options.ca_file, options.key_file, options.cert_file)
            credentials = grpc.ssl_channel_credentials(*map(_content, files))
            self._channel = grpc.secure_channel(options.address, credentials, arguments)
        else:
            self._channel = grpc.insecure_channel(options.address, arguments)
        # Not tritonclient's InferenceServerClient: it never reports an answer that cannot be read, and blocks the
        # thread that all calls of the channel share.
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def has_newer_token(self, call: Call | None = None) -> bool:
        """Whether there is another bearer token than the one that a call, by default the last one, was made with."""
        return self._token is not None and self._token.changed_since_used(call.headers if call else None)

    def close(self) -> None:
        """Close the channel; what is under way is cancelled."""
        self._channel.close()

    def is_live(self) -> bool:
        """Ask whether the server lives.

        Raises
        ------
        EndpointError
            The call failed; so do all other methods.
        """
        return bool(
            self._call("the liveness check", self._stub.ServerLive, self._messages.ServerLiveRequest()).live
        )

    def server_metadata(self) -> tuple[str, str]:
        """Ask for the name and the version of the server's software."""
        answer = self._call(
            "reading the server's metadata",
            self._stub.ServerMetadata,
            self._messages.ServerMetadataRequest(),
        )
        return answer.name, answer.version

    def repository_index(self) -> list[tuple[str, str, str]] | None:
        """List name, version and state of the server's models; ``None`` where the server has no such call.

        Busy sites reject this call, and no other, to turn new clients away (SuperSONIC).
        """
        try:
            index = self._call(
                "reading the list of models",
                self._stub.RepositoryIndex,
                self._messages.RepositoryIndexRequest(),
                calls="admission",
            )
        except EndpointError as error:
            if error.failure is FailureClass.PROTOCOL:
                return None
            raise
        return [(model.name, model.version, model.state) for model in index.models]

    def is_model_ready(self) -> bool:
        """Ask whether model and version are ready."""
        answer = self._call(
            "the readiness check",
            self._stub.ModelReady,
            self._messages.ModelReadyRequest(name=self.options.model, version=self.options.version),
        )
        return bool(answer.ready)

    def read_tensors(self) -> ModelTensors:
        """Read the model's metadata and find the tensors of the contract, or those of its image form.

        Requests are made for them from then on.
        """
        metadata = self._call(
            "reading the model's metadata",
            self._stub.ModelMetadata,
            self._messages.ModelMetadataRequest(name=self.options.model, version=self.options.version),
        )

        def spec(tensor: Any) -> TensorSpec:
            return TensorSpec(
                tensor.name, tensor.datatype, tuple(n if n >= 0 else None for n in tensor.shape)
            )

        inputs, outputs = list(map(spec, metadata.inputs)), list(map(spec, metadata.outputs))
        self.takes_images = is_image_model(inputs)
        try:
            self.tensors = (
                ModelTensors.match_image_model(outputs, what=str(self.options))
                if self.takes_images
                else ModelTensors.match(inputs, outputs, what=str(self.options))
            )
        except ModelError as error:
            raise self._error(error.message, FailureClass.WRONG_MODEL, hint=error.hint) from error
        return self.tensors

    def model_config(self) -> Any | None:
        """Read the model's configuration (``inference.ModelConfig``); ``None`` where the server has no such call."""
        try:
            answer = self._call(
                "reading the model's configuration",
                self._stub.ModelConfig,
                self._messages.ModelConfigRequest(name=self.options.model, version=self.options.version),
            )
        except EndpointError as error:
            if error.failure is FailureClass.PROTOCOL:
                return None
            raise
        return answer.config

    def server_times(self) -> ServerTimes | None:
        """Read what the server has counted for the model; ``None`` where it has no such call."""
        try:
            answer = self._call(
                "reading the model's statistics",
                self._stub.ModelStatistics,
                self._messages.ModelStatisticsRequest(name=self.options.model, version=self.options.version),
            )
        except EndpointError as error:
            if error.failure is FailureClass.PROTOCOL:
                return None
            raise
        statistics = [model.inference_stats for model in answer.model_stats]
        return ServerTimes(
            sum(part.success.count for part in statistics),
            sum(part.queue.ns for part in statistics) / 1e9,
            sum(part.compute_input.ns + part.compute_infer.ns + part.compute_output.ns for part in statistics)
            / 1e9,
        )

    def prepare(self, patches: NDArray[np.float32]) -> Request:
        """Make a request of patches, float32 [n, 48, 48]; the data is copied."""
        if self.takes_images:
            return self._image_request(ImageHits.of_patches(patches), None)
        data = np.ascontiguousarray(patches, np.float32)[..., None]
        return Request(len(data), data.nbytes, self._message({self.tensors.input: ("FP32", data)}))

    def prepare_hits(self, hits: HitBatch, reference: Reference) -> Request:
        """Make a request of hits, with the canaries of the reference around them."""
        images = hits.images()
        if not self.takes_images:
            return self.prepare(reference.with_canaries(hits.patches()))
        if images is None:
            return self._image_request(ImageHits.of_patches(hits.patches()), reference.canaries)
        planes = [PlaneHits(part.image, part.wire, part.drift_bin, part.is_blank) for part in images]
        return self._image_request(ImageHits.gather(planes, images[0].profile), reference.canaries)

    def _image_request(self, hits: ImageHits, canaries: NDArray[np.float32] | None) -> Request:
        request = hits.encode(canaries)
        message = self._message(
            {name: (IMAGE_INPUTS[name].dtype, tensor) for name, tensor in request.tensors.items()}
        )
        return Request(request.n_scores, request.n_bytes, message, hits.index, request.canvas)

    def _message(self, tensors: Mapping[str, tuple[str, NDArray[Any]]]) -> Any:
        return self._messages.ModelInferRequest(
            model_name=self.options.model,
            model_version=self.options.version,
            inputs=[
                {"name": name, "datatype": dtype, "shape": data.shape}
                for name, (dtype, data) in tensors.items()
            ],
            outputs=[{"name": name} for name in self.tensors.outputs.values()],
            raw_input_contents=[data.tobytes() for _, data in tensors.values()],
        )

    def infer(self, request: Request) -> Answer:
        """Send a request and wait for its answer."""
        answer: Future[Answer | ProtosonicError] = Future()
        self.send(request, answer.set_result)
        result = answer.result()
        if isinstance(result, ProtosonicError):
            raise result
        return result

    def send(self, request: Request, callback: Callable[[Answer | ProtosonicError], None]) -> Call:
        """Send a request; `callback` gets the answer or the error, once, in a thread of gRPC.

        Answers come in any order.
        """
        try:
            call = Call(self._headers())
        except ConfigError as error:
            callback(error)
            return Call({})

        def answered(future: Any) -> None:
            try:
                outcome: Answer | ProtosonicError
                if future.code() is self._grpc.StatusCode.OK:
                    response, seconds = future.result(), time.monotonic() - call.sent_at
                    scores = read_scores(response, self.tensors, request.n_patches, what=str(self.options))
                    outcome = Answer(scores, response.model_version, scores.nbytes, seconds)
                else:
                    outcome = self._classified("the inference request", future)
            except ProtosonicError as problem:
                outcome = problem
            except Exception as problem:  # noqa: BLE001  (gRPC would print it, and nobody would get an answer)
                outcome = self._error(
                    "the answer cannot be read", FailureClass.WRONG_ANSWER, found=repr(problem)
                )
            callback(outcome)

        try:
            future = self._stub.ModelInfer.future(
                request.message,
                timeout=self.options.request_timeout_s,
                metadata=_metadata(call.headers),
                compression=self._compression,
            )
        except ValueError as error:  # the channel was closed meanwhile
            callback(self._error("the channel is closed", FailureClass.UNAVAILABLE, found=error))
        else:
            call._attach(future)
            future.add_done_callback(answered)
        return call

    @property
    def _compression(self) -> Any:
        kinds = self._grpc.Compression
        return {"none": None, "gzip": kinds.Gzip, "deflate": kinds.Deflate}[self.options.compression]

    def _headers(self) -> dict[str, str]:
        if self._pid != os.getpid():
            msg = "a TritonClient was carried through a fork; make it in the process that uses it"
            raise RuntimeError(msg)
        return {**self.options.headers, **(self._token.header() if self._token else {})}

    def _call(self, what: str, method: Callable[..., Any], request: Any, *, calls: Calls = "any") -> Any:
        try:
            return method(
                request, timeout=self.options.connect_timeout_s, metadata=_metadata(self._headers())
            )
        except self._grpc.RpcError as error:
            raise self._classified(what, error, calls=calls) from error
        except ValueError as error:
            raise self._error("the channel is closed", FailureClass.UNAVAILABLE, found=error) from error

    def _classified(self, what: str, error: Any, *, calls: Calls = "inference") -> EndpointError:
        status, message = error.code().name, error.details() or ""
        return EndpointError(
            f"{what} failed",
            classify(status, message, calls=calls, was_ready=self.was_ready),
            file=str(self.options),
            status=status,
            found=f"{status}: {message}",
        )

    def _error(self, message: str, failure: FailureClass, **facts: Any) -> EndpointError:
        return EndpointError(message, failure, file=str(self.options), **facts)


def _content(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"a certificate file cannot be read: {error.strerror}", file=path, where="inference.endpoints"
        ) from error


def _metadata(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name.lower(), value) for name, value in headers.items())
