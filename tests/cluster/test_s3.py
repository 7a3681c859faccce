"""Reading from a real S3 server (moto's) by the protocol over the network."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from protosonic.campaign.inputs import InputFile, find_inputs
from protosonic.campaign.records import InputSpec
from protosonic.config import check_settings
from protosonic.errors import ConfigError, DataError, TransientError
from protosonic.remote.fetch import Fetcher
from protosonic.stages.catalog import catalog_file
from protosonic.stages.input_files import is_unchanged

CONTENT = os.urandom(9_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SECRET = "hunter2hunter2"


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")


@pytest.fixture
def server(keys: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadedMotoServer]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint(server))
    client = boto3.client("s3", endpoint_url=endpoint(server))
    client.create_bucket(Bucket="runs")
    for name in ("a.bin", "deep/b.h5", "deep/c.h5", "deep/note.txt", "deep/er/d.h5"):
        client.put_object(Bucket="runs", Key=name, Body=CONTENT)
    yield server
    server.stop()


def endpoint(server: ThreadedMotoServer) -> str:
    return f"http://127.0.0.1:{server.get_host_and_port()[1]}"


def fetcher(**options) -> Fetcher:
    replicas = options.pop("replicas", {})
    return Fetcher(replicas, **{"attempts": 2, "timeout_s": 5.0, "sleep": lambda _: None} | options)


def test_copy_is_whole(server):
    with fetcher() as files, files.copy("s3://runs/a.bin") as copy:
        assert copy.path.read_bytes() == CONTENT
        assert (copy.sha256, copy.status.size) == (SHA256, len(CONTENT))
        assert copy.status.etag.strip('"') == hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


def test_parts_are_read_in_place(server):
    with fetcher() as files:
        stream = files.open_in_place("s3://runs/a.bin", lambda *_: True)
        assert stream is not None
        with stream.open() as file:
            file.seek(-10, os.SEEK_END)
            assert file.read() == CONTENT[-10:]
        assert stream.bytes_read < len(CONTENT) / 2


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("deep/*.h5", ["deep/b.h5", "deep/c.h5"]),
        ("deep/", ["deep/b.h5", "deep/c.h5", "deep/note.txt"]),
        ("**/*.h5", ["deep/b.h5", "deep/c.h5", "deep/er/d.h5"]),
    ],
)
def test_patterns_and_folders_are_listed_by_the_server(server, pattern, names):
    files = find_inputs(check_settings({"inputs": [{"path": f"s3://runs/{pattern}"}]}))
    assert [file.path for file in files] == [f"s3://runs/{name}" for name in names]


@pytest.mark.parametrize("url", ["s3://runs/gone.bin", "s3://gone/a.bin"])
def test_missing_file_is_a_data_problem(server, url):
    with fetcher() as files, pytest.raises(DataError, match="no such file") as caught, files.copy(url):
        pass
    assert caught.value.code == "unreadable"


def test_folder_is_a_data_problem(server):
    with fetcher() as files, pytest.raises(DataError, match="is a directory"), files.copy("s3://runs/deep"):
        pass


def test_server_that_is_down_is_transient_and_shows_no_key(server, caplog):
    caplog.set_level("DEBUG")
    server.stop()
    with fetcher() as files, pytest.raises(TransientError, match="the S3 server failed, 2 times") as caught:
        files.status("s3://runs/a.bin")
    assert caught.value.exit_code == 10
    assert SECRET not in f"{caught.value}{caplog.text}"


def test_missing_keys_are_a_configuration_problem(server, monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    with fetcher() as files, pytest.raises(ConfigError, match="there are no credentials for S3"):
        files.status("s3://runs/a.bin")


def test_change_of_the_file_is_noticed_by_its_etag(server):
    record = catalog_file(InputFile("s3://runs/a.bin", InputSpec()))
    assert record.sha256 == SHA256

    def unchanged() -> bool:
        with fetcher() as files:
            return is_unchanged(record, *files.status("s3://runs/a.bin"))

    assert unchanged()
    client = boto3.client("s3", endpoint_url=endpoint(server))
    client.put_object(Bucket="runs", Key="a.bin", Body=bytes(len(CONTENT)))
    assert not unchanged()
