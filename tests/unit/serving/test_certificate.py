from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from protosonic.serving.certificate import read_certificate


@contextmanager
def tls_server(certificate: trustme.LeafCert, client_authority: trustme.CA | None = None) -> Iterator[str]:
    """A server that shakes hands and says nothing; yields its address."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    context.set_alpn_protocols(["h2"])
    if client_authority is not None:
        client_authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:
                    return
                with plain:
                    try:
                        context.wrap_socket(plain, server_side=True).close()
                    except OSError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


def test_a_trusted_certificate_is_read(authority: trustme.CA, ca_file: Path) -> None:
    with tls_server(authority.issue_cert("127.0.0.1", "triton.example.org")) as address:
        found = read_certificate(address, ca_file=ca_file)
    assert found.problem == ""
    assert set(found.names) == {"127.0.0.1", "triton.example.org"}
    assert "trustme" in found.issuer
    assert found.days_left > 1
    assert datetime.fromisoformat(found.not_after) > datetime.now(UTC)


def test_a_certificate_of_an_unknown_authority_is_read_too(authority: trustme.CA) -> None:
    with tls_server(authority.issue_cert("127.0.0.1")) as address:
        found = read_certificate(address)
    assert "unable to get" in found.problem
    assert found.names == ("127.0.0.1",)
    assert found.days_left > 1


def test_a_certificate_for_another_host_is_not_trusted(authority: trustme.CA, ca_file: Path) -> None:
    with tls_server(authority.issue_cert("elsewhere.example.org")) as address:
        found = read_certificate(address, ca_file=ca_file)
    assert "127.0.0.1" in found.problem
    assert found.names == ("elsewhere.example.org",)


def test_an_expired_certificate_is_not_trusted(authority: trustme.CA, ca_file: Path) -> None:
    expired = authority.issue_cert("127.0.0.1", not_after=datetime.now(UTC) - timedelta(days=2))
    with tls_server(expired) as address:
        found = read_certificate(address, ca_file=ca_file)
    assert found.problem == "certificate has expired"
    assert found.not_after == ""


def test_the_certificate_of_a_server_that_wants_one_of_the_client_is_read(
    authority: trustme.CA, ca_file: Path, tmp_path: Path
) -> None:
    own = authority.issue_cert("client")
    own.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    with tls_server(authority.issue_cert("127.0.0.1"), authority) as address:
        for cert_file in (None, tmp_path / "client.pem"):
            found = read_certificate(address, ca_file=ca_file, cert_file=cert_file, key_file=cert_file)
            assert found.problem == ""


def test_nobody_or_somebody_without_tls_is_an_error(authority: trustme.CA) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"

        def greet() -> None:
            plain, _ = listener.accept()
            with plain:
                plain.sendall(b"SSH-2.0-server\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(OSError, match=r"(?i)wrong version|record layer|reset"):
            read_certificate(address)
        thread.join()
    with pytest.raises(OSError, match="refused"):
        read_certificate(address)
