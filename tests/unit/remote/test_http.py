"""Reading by HTTP from a real server: parts, faults, checksums, tokens and certificates."""

from __future__ import annotations

import hashlib
import http.server
import os
import ssl
import threading
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trustme

from protosonic.campaign.inputs import InputFile
from protosonic.campaign.records import InputSpec, Partition
from protosonic.config import Remote
from protosonic.errors import ConfigError, DataError, TransientError
from protosonic.events.source import Source
from protosonic.remote.fetch import Fetcher
from protosonic.stages.catalog import catalog_file
from protosonic.stages.input_files import is_unchanged, open_partition_file
from unit.remote.web_server import WebServer

CONTENT = os.urandom(9_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SECRET = "hunter2hunter2"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "BEARER_TOKEN",
        "BEARER_TOKEN_FILE",
        "X509_USER_PROXY",
        "X509_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as server:
        server.files["a.bin"] = CONTENT
        yield server


@pytest.fixture
def other() -> Iterator[WebServer]:
    with WebServer() as server:
        server.files["a.bin"] = CONTENT
        yield server


def fetcher(**options) -> Fetcher:
    replicas = options.pop("replicas", {})
    return Fetcher(replicas, **{"attempts": 3, "timeout_s": 5.0, "sleep": lambda _: None} | options)


def copied(url: str, sha256: str = "", **options) -> tuple[str, str]:
    with fetcher(**options) as files, files.copy(url, sha256) as copy:
        assert hashlib.sha256(copy.path.read_bytes()).hexdigest() == copy.sha256
        return copy.sha256, copy.url


def test_copy_is_whole_and_known_by_its_checksums(server):
    with fetcher() as files, files.copy(server.url + "a.bin") as copy:
        assert copy.path.read_bytes() == CONTENT
        assert (copy.sha256, copy.size) == (SHA256, len(CONTENT))
        assert copy.adler32 == copy.status.adler32 == f"{zlib.adler32(CONTENT):08x}"
        assert copy.status.etag == f'"{zlib.crc32(CONTENT):x}"'
    assert not copy.path.exists()


def test_transfer_that_breaks_off_goes_on_where_it_was(server):
    server.cut = [5_000_000]
    assert copied(server.url + "a.bin") == (SHA256, server.url + "a.bin")
    parts = [part for method, part in server.requests if method == "GET"]
    assert parts[0] is None
    assert parts[1] is not None
    assert 3_000_000 < int(parts[1].removeprefix("bytes=").removesuffix("-")) <= 5_000_000


def test_transfer_begins_anew_where_the_server_gives_no_parts(server):
    server.ranges = False
    server.cut = [5_000_000]
    assert copied(server.url + "a.bin")[0] == SHA256


def test_server_of_the_standard_library_without_parts_is_read(tmp_path):
    (tmp_path / "a.bin").write_bytes(CONTENT)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as plain:
        thread = threading.Thread(target=plain.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{plain.server_address[1]}/a.bin"
        try:
            assert copied(url)[0] == SHA256
            with fetcher() as files:
                assert files.open_in_place(url, lambda *_: True) is None
        finally:
            plain.shutdown()
            thread.join()


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_failure_of_the_server_is_tried_again(server, status):
    server.answers = [status, status]
    assert copied(server.url + "a.bin")[0] == SHA256


def test_failures_that_last_are_transient(server):
    server.answers = [503] * 3
    with pytest.raises(
        TransientError, match=r"a\.bin: the HTTP server failed, 3 times \(found 503"
    ) as caught:
        copied(server.url + "a.bin")
    assert caught.value.exit_code == 10


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (404, DataError, "no such file"),
        (403, DataError, "permission denied"),
        (410, DataError, "no such file"),
        (401, ConfigError, "does not accept our credentials"),
    ],
)
def test_refusal_is_final(server, status, kind, message):
    server.answers = [status]
    with pytest.raises(kind, match=message):
        copied(server.url + "a.bin")
    assert len(server.requests) == 2


def test_server_that_is_not_there_is_transient(server):
    with pytest.raises(TransientError, match="the connection to the HTTP server failed"):
        copied("http://127.0.0.1:9/a.bin", attempts=1)


def test_server_without_head_is_asked_by_get(server):
    server.head = False
    assert copied(server.url + "a.bin")[0] == SHA256


def test_copy_with_another_checksum_than_the_server_says_is_never_used(server, other):
    server.digest = "wrong"
    with pytest.raises(TransientError, match="the copy has another checksum, 3 times"):
        copied(server.url + "a.bin")
    assert copied(server.url + "a.bin", replicas={server.url: [other.url]}) == (SHA256, other.url + "a.bin")


def test_replica_serves_what_breaks_off(server, other):
    server.cut = [5_000_000]
    assert copied(server.url + "a.bin", replicas={server.url: [other.url]}) == (SHA256, other.url + "a.bin")


def test_parts_are_read_in_place(server):
    with fetcher() as files:
        stream = files.open_in_place(server.url + "a.bin", lambda *_: True)
        assert stream is not None
        with stream.open() as file:
            file.seek(-10, os.SEEK_END)
            assert file.read() == CONTENT[-10:]
            file.seek(4 * 2**20 - 5)
            assert file.read(10) == CONTENT[4 * 2**20 - 5 : 4 * 2**20 + 5]
        assert stream.bytes_read <= 2 * 4 * 2**20 + len(CONTENT) % (4 * 2**20)
    assert ("GET", None) not in server.requests


def test_full_scratch_is_a_resource_problem(server, monkeypatch):
    from protosonic.errors import ResourceError

    monkeypatch.setattr(
        "shutil.disk_usage", lambda _: os.statvfs_result((0,) * 10) and type("U", (), {"free": 10})
    )
    with pytest.raises(ResourceError, match=r"no room for the file .*TMPDIR"):
        copied(server.url + "a.bin")


# --- what the stages make of it ---


def test_file_that_changed_is_noticed_by_what_the_server_says(server):
    record = catalog_file(InputFile(server.url + "a.bin", InputSpec()))
    assert (record.size, record.sha256, record.reason.partition(":")[0]) == (
        len(CONTENT),
        SHA256,
        "unsupported-format",
    )
    url = server.url + "a.bin"

    def unchanged() -> bool:
        with fetcher() as files:
            return is_unchanged(record, *files.status(url))

    assert unchanged()
    server.digest = ""  # the ETag is left
    assert unchanged()
    server.files["a.bin"] = bytes(len(CONTENT))
    assert not unchanged()
    server.digest = "right"
    assert not unchanged()


@pytest.mark.parametrize(
    ("fetch", "share", "digest", "streams"),
    [
        ("copy", 0.1, "right", False),
        ("stream", 1.0, "right", True),
        ("auto", 0.1, "right", True),
        ("auto", 1.0, "right", False),
    ],
)
def test_partition_is_streamed_or_copied_as_configured(server, fetch, share, digest, streams):
    url = server.url + "a.bin"
    record = catalog_file(InputFile(url, InputSpec()))
    partition = Partition(
        id="0" * 16,
        path=url,
        size=record.size,
        mtime_ns=record.mtime_ns,
        sha256=record.sha256,
        remote=record.remote,
        share=share,
        spec=InputSpec(),
        format="native",
        detector="protodune-sp",
        events=(),
        hits=1,
        mem_mb=1,
    )
    with open_partition_file(partition, Remote(fetch=fetch)) as (source, served_by):
        assert isinstance(source, Source)
        assert (str(source), served_by, isinstance(source.content, Path)) == (url, url, not streams)
    server.files["a.bin"] = bytes(len(CONTENT))
    with (
        pytest.raises(TransientError, match="has changed since it was catalogued"),
        open_partition_file(partition, Remote(fetch=fetch, attempts=1)),
    ):
        pass
    del server.files["a.bin"]
    with (
        pytest.raises(TransientError, match="no such file"),
        open_partition_file(partition, Remote(fetch=fetch, attempts=1)),
    ):
        pass


# --- secrets ---


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[WebServer]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with WebServer(context) as server:
        server.files["a.bin"] = CONTENT
        yield server


def test_token_is_sent_by_https_and_read_anew(secure, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    (tmp_path / "token").write_text(f"{SECRET}\n")
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(tmp_path / "token"))
    caplog.set_level("DEBUG")
    with fetcher() as files:
        files.status(secure.url + "a.bin")
        (tmp_path / "token").write_text("newer")
        files.status(secure.url + "a.bin")
    assert [headers.get("Authorization") for headers in secure.headers] == [
        f"Bearer {SECRET}",
        "Bearer newer",
    ]
    assert SECRET not in caplog.text


def test_token_is_never_sent_unencrypted(server, monkeypatch):
    monkeypatch.setenv("BEARER_TOKEN", SECRET)
    copied(server.url + "a.bin")
    assert not any("Authorization" in headers for headers in server.headers)


def test_token_is_not_sent_on_to_another_server(secure, server, tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("BEARER_TOKEN", SECRET)
    secure.redirect = f"{server.url}a.bin?authz={SECRET}"
    server.answers = [503] * 9
    server.head = False
    with pytest.raises(TransientError) as caught:
        copied(secure.url + "a.bin")
    assert SECRET not in str(caught.value)
    assert any("Authorization" in headers for headers in secure.headers)
    assert not any("Authorization" in headers for headers in server.headers)


@pytest.mark.parametrize("content", ["", "  \n", f"two words {SECRET}", "ü"])
def test_text_that_is_no_token_is_refused_without_showing_it(secure, tmp_path, monkeypatch, content):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    (tmp_path / "token").write_text(content)
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(ConfigError, match="BEARER_TOKEN_FILE: this is not a token") as caught:
        copied(secure.url + "a.bin")
    assert SECRET not in str(caught.value)


def test_certificate_of_an_unknown_authority_is_a_configuration_problem(secure):
    with pytest.raises(ConfigError, match=r"certificates of the server and ours do not fit .*X509_CERT_DIR"):
        copied(secure.url + "a.bin")


def test_certificate_is_shown_to_servers_that_ask_for_one(tmp_path, monkeypatch):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("me@example.org").private_key_and_cert_chain_pem.write_to_path(tmp_path / "x509up")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    with WebServer(context) as secure:
        secure.files["a.bin"] = CONTENT
        # TLS 1.3 may end the connection before the reason has come.
        with pytest.raises((ConfigError, TransientError)):
            copied(secure.url + "a.bin")
        monkeypatch.setenv("X509_USER_PROXY", str(tmp_path / "x509up"))
        assert copied(secure.url + "a.bin")[0] == SHA256


def test_proxy_certificate_that_is_not_there_is_a_configuration_problem(server, monkeypatch):
    monkeypatch.setenv("X509_USER_PROXY", "/nowhere/x509up")
    with pytest.raises(
        ConfigError, match=r"X509_USER_PROXY: there is no such file \(found /nowhere/x509up\)"
    ):
        copied(server.url + "a.bin")
