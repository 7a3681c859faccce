"""Reading from a real XRootD server that is also killed, stopped and started again."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.xrootd_server import XRootDServer
from protosonic.campaign.inputs import InputFile, find_inputs
from protosonic.campaign.records import CatalogBlock, InputSpec, read_record
from protosonic.config import Remote, check_settings
from protosonic.errors import ConfigError, DataError, TransientError
from protosonic.events.formats import open_events
from protosonic.events.reader import ReaderOptions
from protosonic.events.source import Source
from protosonic.remote import scratch
from protosonic.remote.fetch import ChangedError, Fetcher
from protosonic.stages.catalog import catalog_block
from support.campaign import protosonic

SIZE = 50_000_000


@pytest.fixture(scope="module")
def blob(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("blob") / "blob.bin"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    protosonic("simulate", str(folder), "--files", "2", "--events", "6", "--hits", "6000", "--seed", "7")
    return folder


@pytest.fixture
def server() -> Iterator[XRootDServer]:
    with XRootDServer() as server:
        yield server


@pytest.fixture
def other() -> Iterator[XRootDServer]:
    with XRootDServer() as server:
        yield server


@pytest.fixture
def when_bytes_came(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """Do something once, in the midst of a transfer."""

    def arrange(count: int, action: Callable[[], None]) -> None:
        append = scratch.ScratchCopy.append
        waiting = [action]

        def append_and_act(self: scratch.ScratchCopy, chunk: bytes) -> None:
            append(self, chunk)
            if self.size >= count and waiting:
                waiting.pop()()

        monkeypatch.setattr(scratch.ScratchCopy, "append", append_and_act)

    return arrange


class Pauses(list[float]):
    """Takes the place of sleep, and does something in the first pause."""

    def __init__(self, action: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._action = action

    def __call__(self, seconds: float) -> None:
        if not self:
            self._action()
        self.append(seconds)


def fetcher(*, sleep: Pauses | None = None, **options) -> Fetcher:
    replicas = options.pop("replicas", {})
    return Fetcher(
        replicas, **{"attempts": 3, "timeout_s": 5.0} | options, sleep=Pauses() if sleep is None else sleep
    )


def test_copy_is_whole_and_has_the_checksum_of_the_server(server, blob):
    url = server.add(blob)
    content = blob.read_bytes()
    with fetcher() as files, files.copy(url) as copy:
        assert copy.path.read_bytes() == content
        assert copy.sha256 == hashlib.sha256(content).hexdigest()
        assert copy.adler32 == copy.status.adler32 == f"{zlib.adler32(content):08x}"
        assert (copy.url, copy.size, copy.status.size) == (url, SIZE, SIZE)
        assert copy.status.mtime_ns // 10**9 == int((server.data / blob.name).stat().st_mtime)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("gone.bin", "no such file"), ("secret.bin", "permission denied"), ("folder", "is a directory")],
)
def test_file_that_cannot_be_had_is_a_data_problem_at_once(server, blob, name, reason):
    server.add(blob, "folder/blob.bin")
    secret = server.data / "secret.bin"
    secret.write_bytes(b"secret")
    secret.chmod(0)
    pauses = Pauses()
    with (
        fetcher(sleep=pauses) as files,
        pytest.raises(DataError, match=reason) as caught,
        files.copy(server.url + name),
    ):
        pass
    assert caught.value.code == "unreadable"
    assert pauses == []


def test_server_that_is_down_is_tried_again_with_growing_pauses(server, blob):
    url = server.add(blob)
    server.kill()
    pauses = Pauses()
    with (
        fetcher(sleep=pauses, attempts=5) as files,
        pytest.raises(
            TransientError, match=r"the XRootD server failed, 5 times .*Connection error"
        ) as caught,
        files.copy(url),
    ):
        pass
    assert caught.value.exit_code == 10
    assert len(pauses) == 4
    assert all(0 <= pause <= 0.5 * 2**number for number, pause in enumerate(pauses, 1))


def test_transfer_goes_on_where_a_server_was_killed(server, blob, when_bytes_came, caplog):
    url = server.add(blob)
    when_bytes_came(SIZE // 2, server.kill)
    caplog.set_level("INFO")
    offsets = []
    with fetcher(sleep=Pauses(server.start)) as files:
        protocol = files._protocol(url)
        chunks = protocol.chunks
        protocol.chunks = lambda url, offset: offsets.append(offset) or chunks(url, offset)
        with files.copy(url) as copy:
            assert copy.sha256 == hashlib.sha256(blob.read_bytes()).hexdigest()
    assert offsets[0] == 0
    assert offsets[-1] >= SIZE // 2
    assert "try 1 of 3: root://" in caplog.text


def test_file_that_was_replaced_meanwhile_is_read_from_its_start(server, blob, when_bytes_came):
    url = server.add(blob)
    new = os.urandom(SIZE - 5)

    def replace() -> None:
        server.kill()
        (server.data / blob.name).write_bytes(new)

    when_bytes_came(SIZE // 2, replace)
    with fetcher(sleep=Pauses(server.start)) as files, files.copy(url) as copy:
        assert copy.path.read_bytes() == new


def test_replica_serves_when_the_first_server_is_killed(server, other, blob, when_bytes_came, caplog):
    url = server.add(blob, "store/a/blob.bin")
    replica = other.add(blob, "mirror/a/blob.bin")
    replicas = {f"{server.url}store/": [f"{other.url}mirror/"]}
    when_bytes_came(SIZE // 2, server.kill)
    caplog.set_level("INFO")
    pauses = Pauses()
    with fetcher(sleep=pauses, replicas=replicas) as files:
        with files.copy(url) as copy:
            assert copy.url == replica
            assert copy.sha256 == hashlib.sha256(blob.read_bytes()).hexdigest()
        assert f"{url}: served by {replica}" in caplog.text
        assert pauses == []
        # The server that failed comes last from now on.
        assert files.places(url) == [replica, url]


def test_replica_serves_what_the_first_server_lacks(server, other, blob):
    replica = other.add(blob)
    with (
        fetcher(replicas={server.url: [other.url]}) as files,
        files.copy(server.url + blob.name) as copy,
    ):
        assert copy.url == replica


def test_file_that_may_be_at_a_replica_that_is_down_is_no_data_problem(server, other, blob):
    other.kill()
    with (
        fetcher(replicas={server.url: [other.url]}) as files,
        pytest.raises(TransientError),
        files.copy(server.url + blob.name),
    ):
        pass


def test_server_that_stands_still_is_given_up(server, other, blob, when_bytes_came):
    url = server.add(blob)
    replica = other.add(blob)
    when_bytes_came(SIZE // 2, server.pause)
    with (
        fetcher(replicas={server.url: [other.url]}, timeout_s=2.0) as files,
        files.copy(url) as copy,
    ):
        assert copy.url == replica


def test_other_content_than_catalogued_is_not_taken(server, other, blob):
    url = server.add(blob)
    other.add(blob)
    (server.data / blob.name).write_bytes(os.urandom(SIZE))
    sha256 = hashlib.sha256(blob.read_bytes()).hexdigest()
    pauses = Pauses()
    with fetcher(replicas={server.url: [other.url]}) as files, files.copy(url, sha256) as copy:
        assert copy.url == other.url + blob.name
    with (
        fetcher(sleep=pauses) as files,
        pytest.raises(ChangedError, match="has changed"),
        files.copy(url, sha256),
    ):
        pass
    assert pauses == []


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.h5", ["a.h5", "b.h5"]),
        ("[b-z].h5", ["b.h5"]),
        ("deep/", ["deep/c.h5"]),
        ("d*/*.h5", ["deep/c.h5"]),
        ("**/*.h5", ["a.h5", "b.h5", "deep/c.h5", "deep/er/d.h5"]),
        ("*", ["a.h5", "b.h5", "note.txt"]),
    ],
)
def test_patterns_and_folders_are_listed_by_the_server(server, pattern, names):
    for name in ("a.h5", "b.h5", "note.txt", ".hidden.h5", "deep/c.h5", "deep/er/d.h5"):
        (server.data / name).parent.mkdir(parents=True, exist_ok=True)
        (server.data / name).write_text(name)
    files = find_inputs(check_settings({"inputs": [{"path": server.url + pattern}]}))
    assert [file.path for file in files] == [server.url + name for name in names]


@pytest.mark.parametrize(
    ("pattern", "message"), [("*.h5", "nothing on the server matches"), ("gone/", "cannot list these files")]
)
def test_pattern_that_gives_no_file_is_refused(server, pattern, message):
    with pytest.raises(ConfigError, match=rf"inputs\[0\]\.path: .*{message}"):
        find_inputs(check_settings({"inputs": [{"path": server.url + pattern}]}))


def test_server_that_cannot_list_now_stops_the_start(server):
    server.kill()
    settings = check_settings(
        {"inputs": [{"path": f"{server.url}*.h5"}], "remote": {"attempts": 1, "timeout_s": 2}}
    )
    with pytest.raises(TransientError):
        find_inputs(settings)


def in_place(files: Fetcher, url: str) -> Source:
    stream = files.open_in_place(url, lambda *_: True)
    assert stream is not None
    return Source(url, stream.open, stream.size)


def test_events_that_are_read_in_place_are_those_of_the_file(server, simulated):
    path = min(simulated.glob("*.h5"))
    with (
        fetcher() as files,
        open_events(in_place(files, server.add(path)), ReaderOptions()) as remote,
        open_events(path, ReaderOptions()) as local,
    ):
        for mine, theirs in zip(remote.read([1, 4]), local.read([1, 4]), strict=True):
            assert mine.id == theirs.id
            assert (mine.waveforms.values == theirs.waveforms.values).all()


def test_server_that_is_killed_while_events_are_read_in_place_is_a_transient_problem(server, simulated):
    """The failure passes through HDF5 as it is: it is no damage of the file."""
    url = server.add(min(simulated.glob("*.h5")))
    with fetcher() as files:
        source = in_place(files, url)
        with open_events(source, ReaderOptions()) as events:
            server.kill()
            source.content.__self__._block.cache_clear()
            with pytest.raises(TransientError, match="the XRootD server failed, 3 times"):
                list(events.read())


def test_reading_in_place_goes_on_when_the_server_is_back(server, simulated):
    path = min(simulated.glob("*.h5"))
    with fetcher(sleep=Pauses(server.start)) as files:
        source = in_place(files, server.add(path))
        with open_events(source, ReaderOptions()) as events:
            server.kill()
            source.content.__self__._block.cache_clear()
            assert len(list(events.read())) == 6


def test_truncated_remote_file_is_a_data_problem(server, simulated, tmp_path):
    path = min(simulated.glob("*.h5"))
    (tmp_path / "cut.h5").write_bytes(path.read_bytes()[:-1000])
    with fetcher() as files, pytest.raises(DataError) as caught:
        open_events(in_place(files, server.add(tmp_path / "cut.h5")), ReaderOptions())
    assert caught.value.code == "truncated"


def test_catalog_keeps_what_it_has_when_a_server_is_killed(server, simulated, tmp_path, monkeypatch):
    first, second = (server.add(path) for path in sorted(simulated.glob("*.h5")))
    missing = server.url + "gone.h5"
    files = [InputFile(url, InputSpec()) for url in (first, second, missing)]
    output = tmp_path / "block.json"
    remote = Remote(attempts=1, timeout_s=5)
    append = scratch.ScratchCopy.append
    read: set[str] = set()

    def append_and_act(self: scratch.ScratchCopy, chunk: bytes) -> None:
        if self.source[0] == second and second not in read:
            server.kill()
        read.add(self.source[0])
        append(self, chunk)

    monkeypatch.setattr(scratch.ScratchCopy, "append", append_and_act)
    with pytest.raises(TransientError):
        catalog_block(files, output, remote)
    assert not output.exists()
    server.start()
    read.discard(first)
    (server.data / Path(first).name).touch()  # its checksum says that it is the same
    block = catalog_block(files, output, remote)
    assert read == {second}
    assert read_record(output, CatalogBlock) == block
    assert {file.path: len(file.events) for file in block.files} == {first: 6, second: 6, missing: 0}
    assert [path.name for path in tmp_path.iterdir()] == ["block.json"]


def test_server_that_does_not_know_us_is_a_configuration_problem(simulated, monkeypatch):
    path = min(simulated.glob("*.h5"))
    program = (
        "import sys\n"
        "from protosonic.errors import ProtosonicError\n"
        "from protosonic.remote.fetch import Fetcher\n"
        "try:\n"
        "    with Fetcher({}, 2, 5.0) as files, files.copy(sys.argv[1]) as copy:\n"
        "        print(copy.size)\n"
        "except ProtosonicError as error:\n"
        "    sys.exit(f'{type(error).__name__} {error}')\n"
    )

    def copied(url: str) -> subprocess.CompletedProcess[str]:
        # The client keeps its login for as long as the process lives.
        command = [sys.executable, "-c", program, url]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    with XRootDServer(with_key=True) as server:
        url = server.add(path)
        refused = copied(url)
        assert "ConfigError" in refused.stderr
        assert "the server does not accept our credentials" in refused.stderr
        monkeypatch.setenv("XrdSecSSSKT", str(server.key))
        assert copied(url).stdout.strip() == str(path.stat().st_size)
