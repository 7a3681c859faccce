"""A gRPC proxy that lets calls with the right token through, as the front of a site does, and may change answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc

ADDRESS = "127.0.0.1"
CALL_TIMEOUT_S = 60.0
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def _as_it_is(message: bytes) -> bytes:
    return message


class TokenGate(grpc.GenericRpcHandler):
    """Forwards every unary call to another port, byte for byte; without the token it answers UNAUTHENTICATED.

    Attributes
    ----------
    url
        Where it listens.
    token
        The token that is right now; without one, every call is let through.
    change
        What is made of the bytes of every inference answer.
    refused, passed
        Calls that were refused, and calls that were let through.
    busy
        Whether RepositoryIndex is rejected, by which sites turn new clients away.
    """

    def __init__(self, target_port: int, token: str | None) -> None:
        self.token = token
        self.change: Callable[[bytes], bytes] = _as_it_is
        self.busy = False
        self.refused = 0
        self.passed = 0
        self._lock = threading.Lock()
        self._channel = grpc.insecure_channel(f"{ADDRESS}:{target_port}", options=UNLIMITED)
        self._server = grpc.server(ThreadPoolExecutor(16), options=UNLIMITED)
        self._server.add_generic_rpc_handlers([self])
        self.url = f"grpc://{ADDRESS}:{self._server.add_insecure_port(f'{ADDRESS}:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(0).wait()
        self._channel.close()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Give the handler of one call."""
        forward = self._channel.unary_unary(details.method, _as_it_is, _as_it_is)

        def handle(request: bytes, context: grpc.ServicerContext) -> Any:
            found = dict(context.invocation_metadata()).get("authorization")
            if self.token is not None and found != f"Bearer {self.token}":
                self._count(refused=1)
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "Jwt is expired")
            self._count(passed=1)
            if self.busy and details.method.endswith("/RepositoryIndex"):
                context.abort(grpc.StatusCode.CANCELLED, "the load is above its threshold")
            try:
                answer = forward(request, timeout=CALL_TIMEOUT_S)
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
            return self.change(answer) if details.method.endswith("/ModelInfer") else answer

        return grpc.unary_unary_rpc_method_handler(handle, _as_it_is, _as_it_is)

    def _count(self, *, refused: int = 0, passed: int = 0) -> None:
        with self._lock:
            self.refused += refused
            self.passed += passed
