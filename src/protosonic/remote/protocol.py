"""What every protocol can do, and the choice of the one for a URL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from protosonic.errors import ConfigError, TransientError
from protosonic.remote.urls import SCHEMES

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BLOCK_BYTES", "NoRangesError", "Protocol", "RemoteStatus", "protocol_for"]

BLOCK_BYTES = 4 * 2**20
"""What is asked for at a time; one such block must come within the time limit."""


@dataclass(frozen=True)
class RemoteStatus:
    """What a server says of a file.

    Attributes
    ----------
    size
        In bytes; -1 where the server does not say it.
    mtime_ns
        Time of modification in nanoseconds since 1970; 0 where the server does not say it.
    adler32
        Checksum of the content, 8 hexadecimal digits; empty where the server has none.
    etag
        What HTTP and S3 servers give to tell versions of a file apart.
    ranges
        Whether parts of the file can be read.
    """

    size: int
    mtime_ns: int = 0
    adler32: str = ""
    etag: str = ""
    ranges: bool = True


class NoRangesError(TransientError):
    """The server sends the whole file where a part was asked for; the file must be read from its start."""

    def __init__(self, url: str) -> None:
        super().__init__("the server does not give parts of files", file=url)


class Protocol(ABC):
    """Reads files of one kind of URL.

    All methods raise :class:`TransientError` where trying again can help, :class:`DataError` (code ``unreadable``)
    where the file is missing or closed to us, and :class:`ConfigError` where the server does not know us at all.

    Parameters
    ----------
    timeout_s
        Time that a server has for an answer, in seconds.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s

    @abstractmethod
    def status(self, url: str) -> RemoteStatus:
        """Ask what there is."""

    @abstractmethod
    def chunks(self, url: str, offset: int) -> Iterator[bytes]:
        """Read from `offset` to the end; only from 0 where the server cannot give parts."""

    @abstractmethod
    def read_at(self, url: str, offset: int, size: int) -> bytes:
        """Read so many bytes; fewer at the end of the file only."""

    @abstractmethod
    def find(self, pattern: str) -> list[str]:
        """List the URLs of files that match a pattern, or lie in a folder (a URL that ends in ``/``).

        Raises
        ------
        ConfigError
            The protocol cannot list.
        """

    def close(self) -> None:  # noqa: B027  (most have nothing to close)
        """Give back connections."""


def protocol_for(url: str, timeout_s: float) -> Protocol:
    """Choose the protocol for a URL; its library is only imported here.

    Raises
    ------
    ConfigError
        The extra that it needs is not installed.
    """
    kind = SCHEMES[urlsplit(url).scheme.lower()]
    extra = "xrootd" if kind == "root" else "remote"
    try:
        if kind == "root":
            from protosonic.remote.xrootd import XRootD

            return XRootD(timeout_s)
        if kind == "s3":
            from protosonic.remote.s3 import S3

            return S3(timeout_s)
        from protosonic.remote.http import Http

        return Http(timeout_s)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"reading {kind}:// needs a package that is not installed",
            found=f"no module {error.name}",
            hint=f"pip install 'protosonic[{extra}]'",
        ) from error
