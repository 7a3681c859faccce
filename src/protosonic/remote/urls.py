"""Which addresses of remote files are accepted, and how they are written down."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from protosonic.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["SCHEMES", "check_url", "identity_of", "is_url", "places_of", "problem_with", "without_secrets"]

SCHEMES = {
    "root": "root",
    "roots": "root",
    "xroot": "root",
    "xroots": "root",
    "http": "http",
    "https": "http",
    "dav": "http",
    "davs": "http",
    "s3": "s3",
}
"""Scheme of a URL → the protocol that reads it."""

_SECRET_PARAMETERS = frozenset(
    {"access_token", "authz", "awsaccesskeyid", "key", "password", "sig", "signature", "token"}
)
_SECRET_PREFIXES = ("x-amz-", "x-goog-")
_QUERY = re.compile(r"(\w+://[^\s?'\"<>]*)\?[^\s'\"<>)]*")
_LOGIN = re.compile(r"(\w+://)[^\s/@'\"]*@")


def is_url(text: str) -> bool:
    """Whether this is a URL and not a path."""
    return "://" in text


def without_secrets(text: str) -> str:
    """Take logins and queries out of all URLs in a text: servers redirect to addresses that hold tokens."""
    return _QUERY.sub(r"\1?…", _LOGIN.sub(r"\1…@", text))


def problem_with(url: str) -> str | None:
    """Say why a URL is not accepted, without repeating its secrets; ``None`` if it is."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"this is not a URL: {without_secrets(str(error))}"
    if parts.scheme.lower() not in SCHEMES:
        return f"files cannot be read by {parts.scheme}://; allowed: {', '.join(f'{s}://' for s in SCHEMES)}"
    if not host or not parts.path.strip("/"):
        return "a URL needs a host (s3: a bucket) and a path"
    # The password may be empty, and a token may stand in the place of the user.
    if "@" in parts.netloc:
        return (
            "a URL must not hold a login: it would be written into logs and records. Credentials come from the "
            "environment (docs/remote.md)"
        )
    names = [name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    if secret := [n for n in names if n in _SECRET_PARAMETERS or n.startswith(_SECRET_PREFIXES)]:
        return (
            f"a URL must not hold a secret (the parameter {secret[0]}): it would be written into logs and records. "
            "Credentials come from the environment (docs/remote.md)"
        )
    return None


def check_url(url: str, where: str) -> None:
    """Refuse a URL that cannot or must not be used.

    Raises
    ------
    ConfigError
        Unknown scheme, no host, or a secret in the URL; it is not repeated.
    """
    problem = problem_with(url)
    if problem is not None:
        raise ConfigError(problem, where=where, found=without_secrets(url))


def identity_of(url: str) -> str:
    """Write a URL such that equal files have equal texts: scheme and host in lower case, single slashes."""
    parts = urlsplit(url)
    path = re.sub("/+", "/", parts.path)
    query = f"?{parts.query}" if parts.query else ""
    return f"{SCHEMES.get(parts.scheme.lower(), parts.scheme)}://{parts.netloc.lower()}{path}{query}"


def places_of(url: str, replicas: Mapping[str, Sequence[str]]) -> list[str]:
    """List where a file can be read: itself, then its replicas in the order of the configuration.

    Parameters
    ----------
    url
        The file as the inputs name it.
    replicas
        Prefix → the prefixes that can stand in its place.
    """
    places = [url]
    for prefix, others in replicas.items():
        if url.startswith(prefix):
            places += [other + url[len(prefix) :] for other in others]
    return list(dict.fromkeys(places))
