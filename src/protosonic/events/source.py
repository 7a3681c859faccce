"""What a reader reads: a file of this machine, or one that came or comes from another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AnyFile", "Source", "open_binary", "size_of"]


@dataclass(frozen=True)
class Source:
    """A file that has another name than the place of its bytes.

    Attributes
    ----------
    name
        What errors call it.
    content
        A path, or what opens it for reading; such a file must be able to seek.
    size
        In bytes.
    """

    name: str
    content: Path | Callable[[], IO[bytes]]
    size: int

    def __str__(self) -> str:
        return self.name


AnyFile: TypeAlias = Path | Source


def open_binary(file: AnyFile) -> IO[bytes]:
    """Open it for reading."""
    content = file.content if isinstance(file, Source) else file
    return content.open("rb") if isinstance(content, Path) else content()


def size_of(file: AnyFile) -> int:
    """Give the number of its bytes."""
    return file.size if isinstance(file, Source) else file.stat().st_size
