"""HTTP and WebDAV, by requests: it takes proxies, certificates and time limits the way the grid does.

Bodies are read as they come over the wire: servers mark archives as ``Content-Encoding: x-gzip``, and a library that
undoes this changes the file.
"""

from __future__ import annotations

import email.utils
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
import urllib3

from protosonic.errors import ConfigError, DataError, ProtosonicError, TransientError
from protosonic.remote.protocol import BLOCK_BYTES, NoRangesError, Protocol, RemoteStatus
from protosonic.remote.urls import without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Http"]

_TRANSIENT = frozenset({408, 423, 425, 429})
_HINT = "Renew the token (BEARER_TOKEN_FILE) or the proxy (X509_USER_PROXY); see docs/remote.md"
_MOST_TOKEN_BYTES = 16384


class _Bearer(requests.auth.AuthBase):
    """Adds the token, read anew for each request, to encrypted requests only; also keeps requests from ~/.netrc."""

    def __call__(self, request: Any) -> Any:
        if request.url.startswith("https://") and (token := _token()):
            request.headers["Authorization"] = f"Bearer {token}"
        return request


class Http(Protocol):
    """Reads ``http://``, ``https://``, ``dav://`` and ``davs://``."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(timeout_s)
        self._session = requests.Session()
        self._session.auth = _Bearer()
        # Want-Digest (RFC 3230) is how dCache, EOS, StoRM and XRootD give the checksum of the field.
        self._session.headers.update({"Accept-Encoding": "identity", "Want-Digest": "adler32"})
        if proxy := os.environ.get("X509_USER_PROXY"):
            if not Path(proxy).is_file():
                raise ConfigError("there is no such file", where="X509_USER_PROXY", found=proxy)
            self._session.cert = proxy
        if authorities := os.environ.get("X509_CERT_DIR"):
            self._session.verify = authorities

    def status(self, url: str) -> RemoteStatus:
        """Ask by ``HEAD``, and where the server does not know that, by ``GET`` without reading the content."""
        answer = self._request("HEAD", url, refusable=True)
        if answer.status_code in {403, 405, 501}:
            answer.close()
            answer = self._request("GET", url)
        with answer:
            headers = answer.headers
            return RemoteStatus(
                int(headers["Content-Length"]) if headers.get("Content-Length", "").isdigit() else -1,
                _time(headers.get("Last-Modified", "")),
                _adler32(headers.get("Digest", "")),
                headers.get("ETag", ""),
                # Many servers that give parts do not say so; they are asked by the first read.
                headers.get("Accept-Ranges", "bytes").lower() != "none",
            )

    def chunks(self, url: str, offset: int) -> Iterator[bytes]:
        """Read the rest of the file in one request."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with self._request("GET", url, headers) as answer:
            if offset:
                _check_range(answer, url, offset)
            yield from self._body(answer, url)

    def read_at(self, url: str, offset: int, size: int) -> bytes:
        """Read a part by a range request."""
        with self._request("GET", url, {"Range": f"bytes={offset}-{offset + size - 1}"}) as answer:
            _check_range(answer, url, offset)
            return b"".join(self._body(answer, url))

    def find(self, pattern: str) -> list[str]:
        """Refuse: HTTP has no listing that all servers share."""
        raise ConfigError(
            "HTTP servers cannot list files",
            found=without_secrets(pattern),
            hint="Name the files in a list (@list.txt)",
        )

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _request(
        self, method: str, url: str, headers: dict[str, str] | None = None, *, refusable: bool = False
    ) -> Any:
        address = re.sub("^dav", "http", url, flags=re.IGNORECASE)
        try:
            answer = self._session.request(
                method, address, headers=headers, stream=True, timeout=self.timeout_s, allow_redirects=True
            )
        except requests.RequestException as error:
            raise _failure(error, url) from error
        if answer.ok or (refusable and answer.status_code in {403, 405, 501}):
            return answer
        answer.close()
        raise _refusal(answer.status_code, answer.reason or "", url)

    def _body(self, answer: Any, url: str) -> Iterator[bytes]:
        try:
            yield from answer.raw.stream(BLOCK_BYTES // 4, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _failure(error, url) from error


def _failure(error: Exception, url: str) -> ProtosonicError:
    name, text = without_secrets(url), without_secrets(str(error))
    if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE" in text.upper():
        return ConfigError(
            "the certificates of the server and ours do not fit together",
            file=name,
            found=text,
            hint="X509_CERT_DIR names the folder of authorities, X509_USER_PROXY our certificate",
        )
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.TooManyRedirects):
        return DataError(f"the file cannot be opened: {text}", code="unreadable", file=name)
    return TransientError("the connection to the HTTP server failed", file=name, found=text)


def _refusal(status: int, reason: str, url: str) -> ProtosonicError:
    name, found = without_secrets(url), f"{status} {reason}".strip()
    if status in {401, 407}:
        return ConfigError("the server does not accept our credentials", file=name, found=found, hint=_HINT)
    if status >= 500 or status in _TRANSIENT:
        return TransientError("the HTTP server failed", file=name, found=found)
    what = {403: "permission denied", 404: "no such file", 410: "no such file"}.get(status, found)
    return DataError(f"the file cannot be opened: {what}", code="unreadable", file=name)


def _check_range(answer: Any, url: str, offset: int) -> None:
    given = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    if answer.status_code != 206 or given is None or int(given[1]) != offset:
        raise NoRangesError(without_secrets(url))


def _token() -> str:
    """Find the bearer token (WLCG Bearer Token Discovery): ``BEARER_TOKEN``, then the file ``BEARER_TOKEN_FILE``.

    Raises
    ------
    ConfigError
        The file cannot be read, or it is not a token. The content is not shown.
    """
    text, source = os.environ.get("BEARER_TOKEN", ""), "BEARER_TOKEN"
    if not text:
        source = "BEARER_TOKEN_FILE"
        file = os.environ.get(source)
        if not file:
            return ""
        try:
            text = Path(file).read_bytes()[: _MOST_TOKEN_BYTES + 1].decode("ascii", "replace")
        except OSError as error:
            raise ConfigError(
                f"the token cannot be read: {error.strerror}", where=source, found=file
            ) from error
    token = text.strip()
    if not token or len(token) > _MOST_TOKEN_BYTES or not all("!" <= c <= "~" for c in token):
        raise ConfigError("this is not a token", where=source, expected="printable ASCII without blanks")
    return token


def _time(text: str) -> int:
    try:
        return int(email.utils.parsedate_to_datetime(text).timestamp()) * 10**9
    except (TypeError, ValueError):
        return 0


def _adler32(digest: str) -> str:
    found = re.search(r"(?:^|,)\s*adler32=([0-9a-fA-F]{1,8})\b", digest, flags=re.IGNORECASE)
    return found[1].lower().rjust(8, "0") if found else ""
