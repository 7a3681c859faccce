"""What servers, proxies and gRPC really write, and what the failure table makes of it."""

from __future__ import annotations

import pytest

from protosonic.inference.failure_policy import FailureClass, classify

CONNECTING = "failed to connect to all addresses; last error: "
TRITON = [
    ("UNAVAILABLE", "[request id: 7] Exceeds maximum queue size", "overload"),
    ("UNAVAILABLE", "Request timeout expired", "overload"),
    (
        "UNAVAILABLE",
        "Server is stopping, scheduler for model has stopped accepting new inference requests",
        "not-ready",
    ),
    ("UNAVAILABLE", "Server exiting", "not-ready"),
    (
        "UNAVAILABLE",
        "Request for unknown model: 'emtrkmichel' version 1 is not at ready state",
        "not-ready",
    ),
    ("UNAVAILABLE", "Request for unknown model: 'emtrkmichel' has no available versions", "unknown-model"),
    ("NOT_FOUND", "Request for unknown model: 'emtrkmichel' version 9 is not found", "unknown-model"),
    ("INVALID_ARGUMENT", "Request for unknown model: 'other' is not found", "unknown-model"),
    (
        "INVALID_ARGUMENT",
        "[request id: <id_unknown>] inference request batch-size must be <= 256 for 'emtrkmichel'",
        "too-large",
    ),
    (
        "INVALID_ARGUMENT",
        (
            "[request id: <id_unknown>] unexpected shape for input 'main_input' for model 'emtrkmichel'. Expected "
            "[-1,48,48,1], got [5,44,48,1]. NOTE: Setting a non-zero max_batch_size in the model config requires a batch "
            "dimension to be prepended to each input shape. If you want to specify the full shape including the batch dim "
            "in your input dims config, try setting max_batch_size to zero. See the model configuration docs for more info "
            "on max_batch_size."
        ),
        "refused-request",
    ),
    (
        "INVALID_ARGUMENT",
        "inference input 'main_input' data-type is 'FP16', but model 'emtrkmichel' expects 'FP32'",
        "refused-request",
    ),
    (
        "INVALID_ARGUMENT",
        "unexpected inference output 'michel' for model 'emtrkmichel'",
        "refused-request",
    ),
    (
        "INTERNAL",
        "Failed to process the request(s) for model instance 'emtrkmichel_0_0', message: MemoryError",
        "backend",
    ),
    ("INTERNAL", "onnx runtime error 6: Non-zero status code returned while running Conv node", "backend"),
    ("INTERNAL", "Stub process 'emtrkmichel_0_0' is not healthy.", "backend"),
    ("CANCELLED", "Request cancelled", "unavailable"),
]
PROXIES = [
    ("UNAVAILABLE", "no healthy upstream", "unavailable"),
    (
        "UNAVAILABLE",
        (
            "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote "
            "connection failure, transport failure reason: delayed connect error: 111"
        ),
        "unavailable",
    ),
    (
        "UNAVAILABLE",
        "upstream connect error or disconnect/reset before headers. reset reason: overflow",
        "overload",
    ),
    ("UNAVAILABLE", "envoy overloaded", "overload"),
    ("UNAVAILABLE", "local_rate_limited", "overload"),
    ("RESOURCE_EXHAUSTED", "local_rate_limited", "overload"),
    ("UNAVAILABLE", "upstream request timeout", "unavailable"),
    ("UNKNOWN", "Payload Too Large", "too-large"),
    ("UNAUTHENTICATED", "Jwt is missing", "unauthenticated"),
    ("UNAUTHENTICATED", "Jwt is expired", "unauthenticated"),
    ("PERMISSION_DENIED", "RBAC: access denied", "unauthenticated"),
]
GRPC = [
    (
        "UNAVAILABLE",
        CONNECTING + "UNKNOWN: ipv4:127.0.0.1:8001: Failed to connect to remote host: Connection refused",
        "unavailable",
    ),
    (
        "UNAVAILABLE",
        CONNECTING + "UNAVAILABLE: ipv4:127.0.0.1:8001: recvmsg:Connection reset by peer",
        "unavailable",
    ),
    (
        "UNAVAILABLE",
        "DNS resolution failed for triton.example.org:8001: C-ares status is not ARES_SUCCESS",
        "unavailable",
    ),
    ("UNAVAILABLE", "Socket closed", "unavailable"),
    ("UNAVAILABLE", "GOAWAY received; Error code: 0; Debug Text: graceful_stop", "unavailable"),
    ("UNAVAILABLE", "GOAWAY received; Error code: 11; Debug Text: too_many_pings", "overload"),
    (
        "UNAVAILABLE",
        CONNECTING
        + "UNKNOWN: ipv4:127.0.0.1:8001: Ssl handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:1000007d:SSL "
        "routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: self signed certificate",
        "tls",
    ),
    (
        "UNAVAILABLE",
        CONNECTING + "UNKNOWN: Ssl handshake failed: SSL_ERROR_SSL: error:100000f7:WRONG_VERSION_NUMBER",
        "tls",
    ),
    (
        "UNAVAILABLE",
        CONNECTING + "UNKNOWN: Hostname Verification Check failed.",
        "tls",
    ),
    ("DEADLINE_EXCEEDED", "Deadline Exceeded", "timeout"),
    ("CANCELLED", "Locally cancelled by application!", "unavailable"),
    (
        "RESOURCE_EXHAUSTED",
        "CLIENT: Sent message larger than max (4718720 vs. 4194304)",
        "too-large",
    ),
    (
        "RESOURCE_EXHAUSTED",
        "SERVER: Received message larger than max (4718720 vs. 4194304)",
        "too-large",
    ),
    ("RESOURCE_EXHAUSTED", "Bandwidth exhausted or memory limit exceeded", "overload"),
    ("UNAVAILABLE", "Received http2 header with status: 429", "overload"),
    ("UNAVAILABLE", "Received http2 header with status: 503", "unavailable"),
    ("UNKNOWN", "Received http2 header with status: 413", "too-large"),
    ("UNKNOWN", "Received http2 header with status: 500", "unavailable"),
    ("UNKNOWN", "Stream removed", "unavailable"),
    ("INTERNAL", "Received RST_STREAM with error code 2", "unavailable"),
    ("UNIMPLEMENTED", "Received http2 header with status: 404", "protocol"),
    ("UNIMPLEMENTED", "Method not found!", "protocol"),
]


@pytest.mark.parametrize(("status", "message", "failure"), TRITON + PROXIES + GRPC)
def test_what_servers_proxies_and_grpc_write_is_understood(status: str, message: str, failure: str) -> None:
    assert classify(status, message) == FailureClass(failure)


@pytest.mark.parametrize(
    ("status", "message"),
    [("CANCELLED", ""), ("UNAVAILABLE", "local_rate_limited"), ("RESOURCE_EXHAUSTED", "")],
)
def test_a_site_that_turns_new_clients_away_is_busy(status: str, message: str) -> None:
    assert classify(status, message, calls="admission") is FailureClass.OVERLOAD


@pytest.mark.parametrize(
    ("status", "message", "failure"),
    [
        ("INVALID_ARGUMENT", "unexpected shape for input 'main_input'", FailureClass.REFUSED_REQUEST),
        ("UNAVAILABLE", "Socket closed", FailureClass.UNAVAILABLE),
    ],
)
def test_that_a_model_was_ready_changes_nothing_else(
    status: str, message: str, failure: FailureClass
) -> None:
    assert classify(status, message, was_ready=True) is failure
