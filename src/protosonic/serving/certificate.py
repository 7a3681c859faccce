"""What a server's TLS certificate says, and whether it would be trusted."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Certificate", "read_certificate"]


@dataclass(frozen=True)
class Certificate:
    """A server's certificate.

    Attributes
    ----------
    subject, issuer
        Whom it is for and who signed it.
    names
        Host names and addresses that it is valid for.
    not_after
        When it expires, in UTC (ISO 8601); empty where it cannot be read.
    days_left
        Days until then.
    problem
        Why it is not trusted; empty when it is.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_after: str
    days_left: float
    problem: str


def read_certificate(
    address: str,
    *,
    ca_file: Path | None = None,
    cert_file: Path | None = None,
    key_file: Path | None = None,
    timeout_s: float = 5.0,
) -> Certificate:
    """Shake hands with a server and read its certificate, also when it is not trusted.

    Parameters
    ----------
    address
        ``HOST:PORT``.
    ca_file
        PEM file of the authorities to check it with; those of the system by default.
    cert_file, key_file
        The client's own certificate and key, where the server asks for them.
    timeout_s
        Most time for each step.

    Raises
    ------
    OSError
        Nobody answers, or not with TLS.
    """
    problem = ""
    trusting = ssl.create_default_context(cafile=ca_file)
    anybody = _no_questions(ssl.create_default_context())
    for context in (trusting, anybody):
        if cert_file is not None:
            context.load_cert_chain(cert_file, key_file)
    try:
        _, found = _handshake(address, trusting, timeout_s)
    except ssl.SSLCertVerificationError as error:
        problem = error.verify_message
        encoded, _ = _handshake(address, anybody, timeout_s)
        found = _decode(address, encoded, timeout_s)
    not_after = str(found.get("notAfter", ""))
    expires = ssl.cert_time_to_seconds(not_after) if not_after else time.time()
    return Certificate(
        _name(found.get("subject", ())),
        _name(found.get("issuer", ())),
        tuple(value for _, value in found.get("subjectAltName", ())),
        time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires)) if not_after else "",
        (expires - time.time()) / 86400,
        problem,
    )


def _handshake(address: str, context: ssl.SSLContext, timeout_s: float) -> tuple[bytes, dict[str, Any]]:
    """Give the server's certificate as bytes and, where the context has verified it, as what it says."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    context.set_alpn_protocols(["h2"])  # gRPC servers talk to nobody else
    with (
        socket.create_connection((host, int(port)), timeout_s) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        return secure.getpeercert(binary_form=True) or b"", dict(secure.getpeercert() or {})


def _decode(address: str, encoded: bytes, timeout_s: float) -> dict[str, Any]:
    """Read a certificate that is not trusted: Python decodes only what it has verified, so it is its own authority."""
    context = ssl.create_default_context(cadata=encoded)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False
    try:
        return _handshake(address, context, timeout_s)[1]
    except ssl.SSLError:  # an expired one is refused even so
        return {}


def _no_questions(context: ssl.SSLContext) -> ssl.SSLContext:
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _name(parts: Any) -> str:
    return ", ".join(f"{key}={value}" for part in parts for key, value in part) or "unknown"
