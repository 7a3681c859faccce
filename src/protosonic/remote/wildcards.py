"""Wildcards in paths of servers that can list folders: ``*``, ``?``, ``[…]`` and ``**``."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["has_wildcard", "matching"]


def has_wildcard(path: str) -> bool:
    """Whether a path is a pattern; ``?`` alone is not, as it begins the query of a URL."""
    return "*" in path or "[" in path


def matching(pattern: str, entries: Callable[[str], Iterable[tuple[str, bool]]]) -> Iterator[str]:
    """List the files that match, sorted within each folder; hidden files only where the pattern asks for them.

    Parameters
    ----------
    pattern
        A path with wildcards; one that ends in ``/`` stands for the files in that folder.
    entries
        Gives the names in a folder, and whether each is a folder.
    """
    start = "/" if pattern.startswith("/") else ""
    segments = pattern.strip("/").split("/")
    if pattern.endswith("/"):
        segments.append("*")
    yield from _descend(start, [segment for segment in segments if segment], entries)


def _descend(
    folder: str, segments: list[str], entries: Callable[[str], Iterable[tuple[str, bool]]]
) -> Iterator[str]:
    first, *rest = segments
    if rest and first != "**" and not (has_wildcard(first) or "?" in first):
        yield from _descend(f"{folder}{first}/", rest, entries)
        return
    if first == "**" and not rest:
        rest = ["*"]
    if first == "**":
        yield from _descend(folder, rest, entries)
    for name, is_folder in sorted(entries(folder)):
        if name.startswith(".") and not first.startswith("."):
            continue
        if first == "**":
            if is_folder:
                yield from _descend(f"{folder}{name}/", segments, entries)
        elif fnmatchcase(name, first):
            if rest and is_folder:
                yield from _descend(f"{folder}{name}/", rest, entries)
            elif not rest and not is_folder:
                yield f"{folder}{name}"
