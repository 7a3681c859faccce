"""XRootD, by the Python bindings of its own client.

The bindings are used as they are, not through fsspec-xrootd: that turns every failure into an ``OSError`` without the
code of the server, so that a missing file and a server that restarts look alike.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from protosonic.errors import ConfigError, DataError, ProtosonicError, TransientError
from protosonic.remote.protocol import BLOCK_BYTES, Protocol, RemoteStatus
from protosonic.remote.urls import without_secrets
from protosonic.remote.wildcards import matching

if TYPE_CHECKING:
    from collections.abc import Iterator

# The client's own defaults try for ten minutes before they say that a server is gone, and then for half an hour do not try
# at all; trying again is done for all protocols in one place. They are read when it is loaded.
for _name, _value in {
    "XRD_CONNECTIONWINDOW": "15",
    "XRD_CONNECTIONRETRY": "1",
    "XRD_STREAMERRORWINDOW": "0",
    "XRD_STREAMTIMEOUT": "60",
    "XRD_TIMEOUTRESOLUTION": "1",
}.items():
    os.environ.setdefault(_name, _value)

from XRootD import client
from XRootD.client.flags import DirListFlags, OpenFlags, QueryCode, StatInfoFlags

__all__ = ["XRootD"]

_ERROR_RESPONSE = 400
_NOT_AUTHORIZED, _NOT_FOUND, _IS_DIRECTORY, _AUTH_FAILED = 3010, 3011, 3016, 3030
_NEVER = frozenset({3000, 3001, 3002, 3006, 3013, 3015, _NOT_AUTHORIZED, _NOT_FOUND, _IS_DIRECTORY})
"""Answers (XProtocol.hh) that another try does not change: wrong or unsupported requests, no such file, no right."""
_REFUSED = frozenset({110, 203, 204})
"""Codes of the client (XrdClStatus.hh): TLS, login and authentication failed."""
_INVALID = frozenset({9})


class XRootD(Protocol):
    """Reads ``root://host//path``; credentials (X509, tokens) are found by the XRootD client itself."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(timeout_s)
        self._timeout = max(1, round(timeout_s))
        self._url = ""
        self._file: Any = None

    def status(self, url: str) -> RemoteStatus:
        """Ask for size, time and, where the server has one, the Adler-32 checksum."""
        system, path = _system(url)
        answer, info = system.stat(path, timeout=self._timeout)
        _check(answer, url)
        if info.flags & StatInfoFlags.IS_DIR:
            raise DataError(
                "the file cannot be opened: is a directory", code="unreadable", file=without_secrets(url)
            )
        return RemoteStatus(info.size, info.modtime * 10**9, self._adler32(url))

    def _adler32(self, url: str) -> str:
        system, path = _system(url)
        # Servers without checksums, or that have to compute it for too long, are used all the same.
        answer, content = system.query(QueryCode.CHECKSUM, path, timeout=self._timeout)
        words = content.rstrip(b"\0").decode("ascii", "replace").split() if answer.ok and content else []
        return words[1].lower().rjust(8, "0") if len(words) == 2 and words[0] == "adler32" else ""

    def read_at(self, url: str, offset: int, size: int) -> bytes:
        """Read a part; the file stays open for the next one."""
        file = self._open(url)
        try:
            answer, content = file.read(offset, size, timeout=self._timeout)
        except ValueError as error:  # the client has closed it after a failure
            self.close()
            raise TransientError("the file was closed", file=without_secrets(url)) from error
        if not answer.ok:
            self.close()
        _check(answer, url)
        return bytes(content)

    def chunks(self, url: str, offset: int) -> Iterator[bytes]:
        """Read from `offset` to the end."""
        while block := self.read_at(url, offset, BLOCK_BYTES):
            yield block
            offset += len(block)

    def find(self, pattern: str) -> list[str]:
        """List matching files, folder by folder."""
        system, path = _system(pattern)
        prefix = pattern[: len(pattern) - len(path)]

        def entries(folder: str) -> Iterator[tuple[str, bool]]:
            answer, listing = system.dirlist(folder, DirListFlags.STAT, timeout=self._timeout)
            _check(answer, prefix + folder)
            for item in listing:
                yield item.name, bool(item.statinfo and item.statinfo.flags & StatInfoFlags.IS_DIR)

        return [prefix + found for found in matching(path, entries)]

    def close(self) -> None:
        """Close the file that is open."""
        file, self._file, self._url = self._file, None, ""
        if file is not None and file.is_open():
            file.close(timeout=1)

    def _open(self, url: str) -> Any:
        if self._file is None or self._url != url:
            self.close()
            file = client.File()
            answer, _ = file.open(url, OpenFlags.READ, timeout=self._timeout)
            _check(answer, url)
            self._file, self._url = file, url
        return self._file


def _system(url: str) -> tuple[Any, str]:
    """Split a URL into the server and the path, which begins after the slash that follows the host."""
    parts = urlsplit(url)
    path = parts.path[1:] + (f"?{parts.query}" if parts.query else "")
    return client.FileSystem(f"{parts.scheme}://{parts.netloc}"), path


def _check(answer: Any, url: str) -> None:
    if not answer.ok:
        raise _failure(answer.code, answer.errno, answer.message, without_secrets(url))


def _failure(code: int, number: int, message: str, name: str) -> ProtosonicError:
    text = without_secrets(message.strip())
    if code in _INVALID:
        return ConfigError("XRootD does not accept this URL", file=name, found=text)
    if code in _REFUSED or (code == _ERROR_RESPONSE and number == _AUTH_FAILED):
        return ConfigError(
            "the server does not accept our credentials",
            file=name,
            found=text,
            hint="Renew the proxy (X509_USER_PROXY) or the token (BEARER_TOKEN_FILE); see docs/remote.md",
        )
    if code == _ERROR_RESPONSE and number in _NEVER:
        what = {
            _NOT_FOUND: "no such file",
            _NOT_AUTHORIZED: "permission denied",
            _IS_DIRECTORY: "is a directory",
        }
        return DataError(f"the file cannot be opened: {what.get(number, text)}", code="unreadable", file=name)
    return TransientError("the XRootD server failed", file=name, found=text)
