"""What a check of a node has found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from protosonic.errors import (
    ConfigError,
    ModelError,
    ProtosonicError,
    ResourceError,
    ServiceError,
    TransientError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Check", "State", "fail", "ok", "raise_worst", "warn"]

# What must be mended first stands first: an endpoint may be right once its key in the configuration is.
_ORDER: tuple[type[ProtosonicError], ...] = (
    ConfigError,
    ModelError,
    ResourceError,
    ServiceError,
    TransientError,
)


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    name
        What was looked at.
    state
        ``warn``: a campaign runs, but slower or less safely; ``fail``: it does not run.
    found
        What was found.
    mend
        What to do about it; empty where all is right.
    error
        For ``fail``: the class whose exit code says what kind of problem it is.
    """

    name: str
    state: State
    found: str
    mend: str = ""
    error: type[ProtosonicError] | None = None

    def to_json(self) -> dict[str, Any]:
        """Give it for a JSON file; ``exit_code`` is 0 unless it failed."""
        return {
            "name": self.name,
            "state": str(self.state),
            "found": self.found,
            "mend": self.mend,
            "exit_code": self.error.exit_code if self.error else 0,
        }


def ok(name: str, found: str) -> Check:
    """Say that all is right."""
    return Check(name, State.OK, found)


def warn(name: str, found: str, mend: str) -> Check:
    """Say that a campaign runs, but slower or less safely."""
    return Check(name, State.WARN, found, mend)


def fail(name: str, found: str, mend: str, error: type[ProtosonicError] = ConfigError) -> Check:
    """Say that a campaign does not run."""
    return Check(name, State.FAIL, found, mend, error)


def raise_worst(checks: Sequence[Check]) -> None:
    """Raise an error of the class that must be mended first.

    Raises
    ------
    ProtosonicError
        A check has failed.
    """
    failed = [check for check in checks if check.error is not None]
    others = [check.error for check in failed if check.error not in _ORDER and check.error is not None]
    for error in (*_ORDER, *others):
        if any(check.error is error for check in failed):
            raise error(
                f"{len(failed)} of {len(checks)} checks failed",
                found=", ".join(check.name for check in failed),
            )
