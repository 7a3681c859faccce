"""The bearer token of an endpoint, from a file or an environment variable; it is never shown."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from protosonic.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["BearerToken"]

_MOST_BYTES = 16384
_PRINTABLE = frozenset(range(0x21, 0x7F))


class BearerToken:
    """A bearer token that is read anew when it changes, as tokens of grid jobs do while they run.

    Neither ``repr`` nor any error holds the token: errors name the file or the variable only.

    Parameters
    ----------
    file
        File that holds the token and nothing else but white space.
    env
        Environment variable that holds it. With neither there is no token.

    Raises
    ------
    ConfigError
        Both are given.
    """

    def __init__(self, file: Path | None = None, env: str | None = None) -> None:
        if file is not None and env is not None:
            raise ConfigError(
                "a token comes from a file or from an environment variable, not from both",
                where="token_file, token_env",
                hint="Remove one of them",
            )
        self._file = file
        self._env = env
        self._stamp: tuple[int, int, int] | None = None
        self._token = ""
        self._last_sent: str | None = None

    def __repr__(self) -> str:
        source = f"file={str(self._file)!r}" if self._file is not None else f"env={self._env!r}"
        return f"BearerToken({source})"

    def header(self) -> dict[str, str]:
        """Give the request metadata with the newest token.

        Returns
        -------
        ``{"authorization": "Bearer …"}``, or nothing without a token.

        Raises
        ------
        ConfigError
            The token is missing, empty, unreadable, or no token. A file that is so only for a while, once it has been
            read, raises nothing: it is being replaced, and the token read before is given.
        """
        token = self._current()
        if token is None:
            return {}
        self._last_sent = token
        return {"authorization": f"Bearer {token}"}

    def changed_since_used(self, sent: Mapping[str, str] | None = None) -> bool:
        """Whether there is a newer token than the one that was sent; a token that cannot be read is not newer.

        Parameters
        ----------
        sent
            The header that was sent; the last one by default.
        """
        before = self._last_sent if sent is None else sent.get("authorization", "").removeprefix("Bearer ")
        try:
            return before is not None and self._current() not in {None, before}
        except ConfigError:
            return False

    def _current(self) -> str | None:
        if self._file is not None:
            return self._read_file(self._file)
        if self._env is not None:
            value = os.environ.get(self._env)
            where = f"environment variable {self._env}"
            if value is None:
                raise ConfigError("the bearer token is missing", where=where, hint="Set the variable")
            return _checked(os.fsencode(value), where=where)
        return None

    def _read_file(self, file: Path) -> str:
        try:
            return self._read_if_changed(file)
        except ConfigError:
            if self._stamp is None:
                raise
            return self._token

    def _read_if_changed(self, file: Path) -> str:
        try:
            if self._stamp is not None and _stamp(file.stat()) == self._stamp:
                return self._token
            with file.open("rb") as stream:
                # The stamp of the open file: a file that takes its place from now on is seen at the next call.
                stamp = _stamp(os.fstat(stream.fileno()))
                content = stream.read(_MOST_BYTES + 1)
        except OSError as error:
            raise ConfigError(
                "the bearer token cannot be read",
                file=file,
                found=error.strerror or type(error).__name__,
                hint="Correct token_file, or put the token there",
            ) from error
        self._token = _checked(content, file=file)
        self._stamp = stamp
        return self._token


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mtime_ns, status.st_size, status.st_ino


def _checked(content: bytes, *, file: Path | None = None, where: str | None = None) -> str:
    token = content.strip()
    found = None
    if not token:
        found = "nothing but white space" if content else "nothing"
    elif len(content) > _MOST_BYTES:
        found = f"more than {_MOST_BYTES} bytes"
    elif any(byte in b" \t\r\n\v\f" for byte in token):
        found = "white space between other characters"
    elif not _PRINTABLE.issuperset(token):
        found = "control characters, or characters outside of ASCII"
    if found is not None:
        raise ConfigError(
            "this is no bearer token",
            file=file,
            where=where,
            expected="the token in one line of printable ASCII",
            found=found,
            hint="Put the token alone there, without the word Bearer",
        )
    return token.decode("ascii")
