"""Optional dependencies: what is missing is said with the command that installs it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from protosonic.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["needs_extra"]


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Run imports that need an optional extra.

    Raises
    ------
    ConfigError
        A package of it is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("protosonic"):
            raise
        raise ConfigError(
            f"this needs {error.name}, which is not installed", hint=f"pip install 'protosonic[{extra}]'"
        ) from error
