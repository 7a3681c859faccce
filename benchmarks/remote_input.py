"""Events of a partition from a real XRootD server: the file copied to scratch first, or its parts read over the network.

Near and through a proxy that imposes a round trip and a bandwidth. The seconds include opening, reading and, for a copy, its
checksums; they do not include making images. The catalog's query for the server's checksum is made once beforehand.
Needs xrootd-server (Debian) and the extra ``xrootd``.
"""

from __future__ import annotations

import argparse
import io
import itertools
import statistics
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from cluster.xrootd_server import XRootDServer
from common import report, run
from integration.faults.proxy import FaultProxy
from protosonic.events.formats import open_events
from protosonic.events.reader import ReaderOptions
from protosonic.events.source import Source
from protosonic.remote.fetch import Fetcher

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARES = (0.1, 0.25, 0.5, 1.0)
NETWORKS = {"none": (0.0, None), "20 ms, 1 Gb/s": (0.020, 1e9 / 8)}
"""Round trip in seconds, bytes a second."""
ARCHIVE_EVENTS = 10
REPEATS = 5


def repeat_archive(source: Path, target: Path) -> None:
    """Write an archive of many events that are all that of `source`, which has one."""
    with tarfile.open(source) as old, tarfile.open(target, "w:gz", compresslevel=1) as new:
        members = [(m.name, old.extractfile(m).read()) for m in old.getmembers()]  # type: ignore[union-attr]
        for number in range(ARCHIVE_EVENTS):
            for name, content in members:
                entry = tarfile.TarInfo(f"{name.rpartition('_')[0]}_{number}.npy")
                entry.size = len(content)
                new.addfile(entry, io.BytesIO(content))


def read(url: str, fetch: str, entries: list[int], options: ReaderOptions) -> tuple[float, int]:
    """Read events; gives the seconds, and the bytes of the file that came."""
    start = time.monotonic()
    with Fetcher({}) as fetcher:
        if fetch == "copy":
            with (
                fetcher.copy(url) as copy,
                open_events(Source(url, copy.path, copy.size), options) as events,
            ):
                count, came = sum(1 for _ in events.read(entries)), copy.size
        else:
            stream = fetcher.open_in_place(url, lambda *_: True)
            assert stream is not None
            with open_events(Source(url, stream.open, stream.size), options) as events:
                count = sum(1 for _ in events.read(entries))
            came = stream.bytes_read
    assert count == len(entries)
    return time.monotonic() - start, came


def compare(path: Path, options: ReaderOptions) -> Iterator[dict[str, Any]]:
    """Read parts from the middle of a file in both ways."""
    with open_events(path, options) as events:
        number, kind = len(list(events.summaries())), events.format
    with XRootDServer() as server, FaultProxy(server.port) as proxy:
        name = server.add(path).removeprefix(server.url)
        url = f"root://127.0.0.1:{proxy.port}//{name}"
        with Fetcher({}) as fetcher:
            fetcher.status(url)
        for network, (round_trip, bandwidth) in NETWORKS.items():
            proxy.behave(delay_s=round_trip / 2, bytes_per_s=bandwidth)
            for share in SHARES:
                wanted = max(1, round(share * number))
                first = (number - wanted) // 2
                entries = list(range(first, first + wanted))
                seconds: dict[str, list[float]] = {"copy": [], "stream": []}
                came = {}
                # In turns, so that both see the same neighbours on the machine.
                for _, fetch in itertools.product(range(REPEATS), seconds):
                    took, came[fetch] = read(url, fetch, entries, options)
                    seconds[fetch].append(took)
                ratios = [one / other for one, other in zip(*seconds.values(), strict=True)]
                yield {
                    "file": kind,
                    "network": network,
                    "events": f"{wanted} of {number}",
                    "copy, s": statistics.median(seconds["copy"]),
                    "stream, s": statistics.median(seconds["stream"]),
                    "copy over stream": statistics.median(ratios),
                    "lowest": min(ratios),
                    "highest": max(ratios),
                    "copy, MB": came["copy"] / 1e6,
                    "stream, MB": came["stream"] / 1e6,
                }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=80, help="events of the simulated native file")
    parser.add_argument("--native", type=Path, help="a native file instead")
    parser.add_argument("--real", type=Path, help="the ProtoDUNE-HD frames of Wire-Cell, a .tar.bz2")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        native = options.native
        if native is None:
            count = str(options.events)
            run("protosonic", "simulate", folder, "--files", "1", "--events", count, "--hits", "12000")
            native = next(folder.glob("*.h5"))
        rows = list(compare(native, ReaderOptions()))
        if options.real:
            repeat_archive(options.real, folder / "frames.tar.gz")
            frames = ReaderOptions(detector="protodune-hd", charge_scale=1e-3)
            rows += compare(folder / "frames.tar.gz", frames)
    report("Events of a remote file", rows, options.json)


if __name__ == "__main__":
    main()
