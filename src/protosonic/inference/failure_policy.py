"""What an endpoint's failure means and what is done about it: one table for every status and message.

Sources: the status codes of Triton's core (``scheduler_utils.cc``, ``dynamic_batch_scheduler.cc``,
``model_repository_manager``, ``infer_request.cc``), of the Envoy front of SuperSONIC, and of gRPC itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from protosonic.errors import ServiceError

__all__ = ["ACTIONS", "TABLE", "Action", "EndpointError", "FailureClass", "Rule", "classify"]


class FailureClass(StrEnum):
    """What has happened."""

    OVERLOAD = "overload"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    BACKEND = "backend"
    NOT_READY = "not-ready"
    TOO_LARGE = "too-large"
    UNAUTHENTICATED = "unauthenticated"
    UNKNOWN_MODEL = "unknown-model"
    REFUSED_REQUEST = "refused-request"
    TLS = "tls"
    WRONG_MODEL = "wrong-model"
    WRONG_ANSWER = "wrong-answer"
    PROTOCOL = "protocol"


class Action(StrEnum):
    """What is done about it.

    ``wait``: fewer requests in flight, and again to the same endpoint after a while; never a reason to leave it before
    the patience ends. ``retry``: again after a back-off, at this or another endpoint, a bounded number of times; the
    endpoint's circuit breaker counts. ``split``: again at once in two halves. ``reauthenticate``: again when a newer
    token is there. ``refuse``: the endpoint gets no more work in this job, because trying again cannot help.
    """

    WAIT = "wait"
    RETRY = "retry"
    SPLIT = "split"
    REAUTHENTICATE = "reauthenticate"
    REFUSE = "refuse"


ACTIONS = {
    FailureClass.OVERLOAD: Action.WAIT,
    FailureClass.UNAVAILABLE: Action.RETRY,
    FailureClass.TIMEOUT: Action.RETRY,
    FailureClass.BACKEND: Action.RETRY,
    FailureClass.NOT_READY: Action.RETRY,
    FailureClass.TOO_LARGE: Action.SPLIT,
    FailureClass.UNAUTHENTICATED: Action.REAUTHENTICATE,
    FailureClass.UNKNOWN_MODEL: Action.REFUSE,
    FailureClass.REFUSED_REQUEST: Action.REFUSE,
    FailureClass.TLS: Action.REFUSE,
    FailureClass.WRONG_MODEL: Action.REFUSE,
    FailureClass.WRONG_ANSWER: Action.REFUSE,
    FailureClass.PROTOCOL: Action.REFUSE,
}

Calls = Literal["any", "admission", "inference"]


@dataclass(frozen=True)
class Rule:
    """One row of the table.

    Attributes
    ----------
    calls
        ``admission`` is RepositoryIndex, which a proxy may reject to say that it is busy.
    statuses
        gRPC status codes; none stands for all.
    pattern
        Regular expression that is searched in the message.
    failure
        What it means.
    example
        A message as servers write it.
    """

    calls: Calls
    statuses: tuple[str, ...]
    pattern: str
    failure: FailureClass
    example: str

    def matches(self, status: str, message: str, calls: Calls) -> bool:
        """Whether the rule speaks of such a failure."""
        return (
            self.calls in {"any", calls}
            and (not self.statuses or status in self.statuses)
            and re.search(self.pattern, message, re.IGNORECASE) is not None
        )


TABLE = (
    Rule(
        "any",
        ("UNAVAILABLE",),
        r"certificate|wrong_version_number|hostname verification|alert|no start line",
        FailureClass.TLS,
        "failed to connect to all addresses; last error: UNKNOWN: Ssl handshake failed: CERTIFICATE_VERIFY_FAILED",
    ),
    Rule("admission", ("CANCELLED",), "", FailureClass.OVERLOAD, "rejected: the load is above its threshold"),
    Rule(
        "any",
        ("UNAVAILABLE",),
        r"maximum queue size|request timeout expired|queue is full|overload|reset reason: overflow"
        r"|too.many.(requests|pings)|rate.limit|status: 429",
        FailureClass.OVERLOAD,
        "Exceeds maximum queue size",
    ),
    Rule(
        "any",
        ("RESOURCE_EXHAUSTED",),
        r"larger than max|message .*(size|larger|exceeds)|too large",
        FailureClass.TOO_LARGE,
        "Received message larger than max (4718720 vs. 4194304)",
    ),
    Rule(
        "any",
        ("UNKNOWN",),
        r"status: 413|too large",
        FailureClass.TOO_LARGE,
        "Received http2 header with status: 413",
    ),
    Rule("any", ("RESOURCE_EXHAUSTED",), "", FailureClass.OVERLOAD, "too many requests"),
    Rule(
        "any",
        ("INVALID_ARGUMENT",),
        # A wrong shape is answered with advice on max_batch_size, too: splitting would not help.
        r"batch-size must be <=|(exceeds|larger than|greater than)( the)?( model)? max(imum)?[_ ]batch[_ ]size",
        FailureClass.TOO_LARGE,
        "inference request batch-size must be <= 256 for 'emtrkmichel'",
    ),
    Rule(
        "any",
        ("UNAVAILABLE",),
        r"not (at )?ready|loading|exiting|not accepting|shutting down|stopping",
        FailureClass.NOT_READY,
        "Request for unknown model: 'emtrkmichel' version 1 is not at ready state",
    ),
    Rule(
        "any",
        ("INVALID_ARGUMENT", "NOT_FOUND", "UNAVAILABLE", "UNKNOWN"),
        r"unknown model|model .*not found|no (available )?version|version .*not found",
        FailureClass.UNKNOWN_MODEL,
        "Request for unknown model: 'emtrkmichel' is not found",
    ),
    Rule("any", ("NOT_FOUND",), "", FailureClass.UNKNOWN_MODEL, "emtrkmichel"),
    Rule(
        "any",
        ("UNAUTHENTICATED", "PERMISSION_DENIED"),
        "",
        FailureClass.UNAUTHENTICATED,
        "Jwt is expired",
    ),
    Rule("any", ("DEADLINE_EXCEEDED",), "", FailureClass.TIMEOUT, "Deadline Exceeded"),
    Rule("any", ("CANCELLED",), "", FailureClass.UNAVAILABLE, "the server stops and cancels what it holds"),
    Rule(
        "any",
        ("UNAVAILABLE",),
        "",
        FailureClass.UNAVAILABLE,
        "failed to connect to all addresses; connection refused, reset, GOAWAY, no address for the name, or "
        "upstream connect error",
    ),
    Rule(
        "inference",
        (),
        # What the image form of a model says of tensors that contradict each other (serving.image_model.INCONSISTENT).
        "does_not_fit_its_canvas",
        FailureClass.REFUSED_REQUEST,
        "Non-zero status code returned while running Reshape node. Name:'the_request_does_not_fit_its_canvas'",
    ),
    Rule(
        "any",
        ("INTERNAL", "UNKNOWN"),
        r"rst_stream|goaway|http2|http status|connection|socket closed|stream removed|compress|deserializ",
        FailureClass.UNAVAILABLE,
        "Received RST_STREAM with error code 2",
    ),
    Rule(
        "any",
        ("INTERNAL", "UNKNOWN", "ABORTED", "DATA_LOSS"),
        "",
        FailureClass.BACKEND,
        "Failed to process the request(s) for model instance 'emtrkmichel_0_0'",
    ),
    Rule(
        "any",
        ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE", "ALREADY_EXISTS"),
        "",
        FailureClass.REFUSED_REQUEST,
        "unexpected shape for input 'main_input'",
    ),
    Rule(
        "any", ("UNIMPLEMENTED",), "", FailureClass.PROTOCOL, "unknown service inference.GRPCInferenceService"
    ),
    Rule("any", (), "", FailureClass.REFUSED_REQUEST, "a client error without a status"),
)
"""The first rule that matches counts. A wrong model or answer has no status: it is found by looking at it."""


class EndpointError(ServiceError):
    """A call to an endpoint failed.

    Attributes
    ----------
    failure
        What it means.
    status
        The gRPC status code, such as ``UNAVAILABLE``; ``None`` where there is none.
    """

    def __init__(
        self,
        message: str,
        failure: FailureClass,
        *,
        file: str,
        status: str | None = None,
        expected: object = None,
        found: object = None,
        hint: str | None = None,
    ) -> None:
        self.failure = failure
        self.status = status
        super().__init__(message, file=file, expected=expected, found=found, hint=hint)

    @property
    def action(self) -> Action:
        """What to do about it."""
        return ACTIONS[self.failure]


def classify(
    status: str | None, message: str, *, calls: Calls = "inference", was_ready: bool = False
) -> FailureClass:
    """Say what a failed call means.

    Parameters
    ----------
    status
        gRPC status code, such as ``UNAVAILABLE``; ``None`` for an error that the client library made.
    message
        What came with it.
    calls
        Kind of call.
    was_ready
        Whether the model has been ready in this job: then its absence is taken for a rolling update that passes.
    """
    failure = next(rule.failure for rule in TABLE if rule.matches(status or "", message, calls))
    if failure is FailureClass.UNKNOWN_MODEL and was_ready:
        return FailureClass.NOT_READY
    return failure
