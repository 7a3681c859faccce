"""Reading remote files with retries and replicas: copied to scratch, or in place."""

from __future__ import annotations

import functools
import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass
from random import SystemRandom
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import urlsplit

from protosonic.errors import ConfigError, DataError, ProtosonicError, TransientError
from protosonic.remote.in_place import InPlace
from protosonic.remote.protocol import NoRangesError, protocol_for
from protosonic.remote.scratch import ScratchCopy, scratch_file
from protosonic.remote.urls import places_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from protosonic.remote.protocol import Protocol, RemoteStatus

__all__ = ["ChangedError", "Copy", "Fetcher"]

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
_RANDOM = SystemRandom()
_Result = TypeVar("_Result")


class ChangedError(TransientError):
    """A replica gives another content than was catalogued; another replica may give it, another try does not."""


@dataclass(frozen=True)
class Copy:
    """A remote file that was copied whole.

    Attributes
    ----------
    path
        The copy, in the scratch folder; it is removed afterwards.
    url
        The replica that served it.
    status
        What its server says of it.
    sha256, adler32
        Checksums of the bytes that came.
    """

    path: Path
    url: str
    status: RemoteStatus
    size: int
    sha256: str
    adler32: str


class Fetcher:
    """Reads remote files; keeps connections and remembers which servers failed.

    Each file is tried at all its replicas in turn before a pause and the next round; a server that failed comes last for
    the files that follow. A failure that no other try can change (no such file, no right to read it) is final for its
    replica.

    Parameters
    ----------
    replicas
        Prefix of a URL → prefixes of its replicas; see :func:`protosonic.remote.urls.places_of`.
    attempts
        Rounds over the replicas.
    timeout_s
        Time that a server has for an answer, in seconds.
    sleep
        For tests.
    """

    def __init__(
        self,
        replicas: Mapping[str, Sequence[str]],
        attempts: int = 4,
        timeout_s: float = 60.0,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._replicas = replicas
        self._attempts = attempts
        self._timeout_s = timeout_s
        self._sleep = sleep
        self._failed: dict[str, None] = {}
        self._protocols: dict[str, Protocol] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for protocol in self._protocols.values():
            protocol.close()
        self._protocols.clear()

    def places(self, url: str) -> list[str]:
        """List where a file can be read, servers that failed lately last."""
        return sorted(places_of(url, self._replicas), key=lambda place: _server(place) in self._failed)

    def status(self, url: str) -> tuple[str, RemoteStatus]:
        """Ask what there is.

        Returns
        -------
        The replica that answered, and its answer.

        Raises
        ------
        TransientError, DataError, ConfigError
            As :class:`Protocol` says, when no replica can serve the file.
        """
        return self._try(url, lambda place: (place, self._protocol(place).status(place)))

    @contextmanager
    def copy(self, url: str, sha256: str = "") -> Iterator[Copy]:
        """Copy a file to scratch (``$TMPDIR``), whole and checked against its size and the checksum of the server.

        Parameters
        ----------
        url
            The file.
        sha256
            What it must be; a replica that gives another content is passed over.

        Raises
        ------
        DataError
            Code ``unreadable``: missing or closed to us at all replicas.
        TransientError
            No replica gave the whole file, or none gave the content that it must have.
        ResourceError
            The scratch folder is full.
        ConfigError
            No server knows us, or a package is missing.
        """
        with scratch_file() as scratch:
            part = ScratchCopy(scratch)
            yield self._try(url, lambda place: self._copy(place, part, sha256))

    def open_in_place(self, url: str, is_same: Callable[[str, RemoteStatus], bool]) -> InPlace | None:
        """Open a file to read parts of it over the network.

        Parameters
        ----------
        url
            The file.
        is_same
            Whether what a server says proves that it has the content that is meant.

        Returns
        -------
        ``None`` where no replica that answers can prove it, or give parts.
        """
        usable: list[str] = []
        size = 0
        for place in self.places(url):
            try:
                status = self._protocol(place).status(place)
                if status.size > 0 and status.ranges and is_same(place, status):
                    self._protocol(place).read_at(place, 0, 1)
                    usable.append(place)
                    size = status.size
            except ProtosonicError as error:
                log.warning("%s", error)
        if not usable:
            return None
        return InPlace(usable[0], size, functools.partial(self._read_at, usable))

    def _read_at(self, places: Sequence[str], offset: int, size: int) -> bytes:
        def read(place: str) -> bytes:
            content = self._protocol(place).read_at(place, offset, size)
            if len(content) != size:
                raise TransientError(
                    "the server gave less than asked for", file=place, expected=size, found=len(content)
                )
            return content

        return self._try(places[0], read, places)

    def find(self, pattern: str) -> list[str]:
        """List the files that match; see :meth:`Protocol.find`."""
        return self._try(pattern, lambda place: self._protocol(place).find(place), [pattern])

    def _protocol(self, place: str) -> Protocol:
        server = _server(place)
        if server not in self._protocols:
            self._protocols[server] = protocol_for(place, self._timeout_s)
        return self._protocols[server]

    def _try(
        self, url: str, action: Callable[[str], _Result], places: Sequence[str] | None = None
    ) -> _Result:
        """Do something at the first replica that can; raise the most hopeful of the failures if none can."""
        final: dict[str, ProtosonicError] = {}
        last: TransientError | None = None
        for attempt in range(self._attempts):
            order = self.places(url) if places is None else places
            waiting = [place for place in order if place not in final]
            if attempt and waiting:
                self._pause(attempt)
            for place in waiting:
                try:
                    result = action(place)
                except ChangedError as error:
                    final[place] = error
                    log.warning("%s", error)
                except TransientError as error:
                    last = error
                    self._failed[_server(place)] = None
                    log.warning("try %d of %d: %s", attempt + 1, self._attempts, error)
                except (DataError, ConfigError) as error:
                    final[place] = error
                    log.warning("%s", error)
                else:
                    self._failed.pop(_server(place), None)
                    if place != url:
                        log.info("%s: served by %s", url, place)
                    return result
        if last is not None:
            raise TransientError(
                f"{last.message}, {self._attempts} times",
                file=url,
                found=last.found,
                expected=last.expected,
                hint="Run the same command again when the server is back",
            ) from last
        # A server that does not know us may have the file, one that misses it has not.
        raise min(
            final.values(),
            key=lambda error: (not isinstance(error, ConfigError), not isinstance(error, ChangedError)),
        )

    def _pause(self, attempt: int) -> None:
        # Full jitter spreads the jobs that a restarting server has thrown out together.
        self._sleep(_RANDOM.uniform(0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**attempt)))

    def _copy(self, place: str, part: ScratchCopy, sha256: str) -> Copy:
        protocol = self._protocol(place)
        status = protocol.status(place)
        source = (place, status.size, status.mtime_ns, status.etag)
        if part.source != source:
            part.restart(source, status.size)
        try:
            _pour(protocol.chunks(place, part.size), part, status.size)
        except NoRangesError:
            part.restart(source, status.size)
            _pour(protocol.chunks(place, 0), part, status.size)
        if problem := part.problem(status):
            part.source = None
            raise TransientError(problem[0], file=place, expected=problem[1], found=problem[2])
        digest = part.sha256.hexdigest()
        if sha256 and sha256 != digest:
            part.source = None
            raise ChangedError(
                "the file has changed since it was catalogued",
                file=place,
                expected=f"sha256 {sha256[:16]}",
                found=digest[:16],
                hint="Run the campaign again with -- --forcerun catalog: it will be read anew",
            )
        return Copy(part.path(), place, status, part.size, digest, f"{part.adler32:08x}")


def _pour(chunks: Iterator[bytes], part: ScratchCopy, size: int) -> None:
    for chunk in chunks:
        part.append(chunk)
        if 0 <= size < part.size:  # growing or endless; it is refused for its size
            break


def _server(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
