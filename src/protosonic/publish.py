"""Atomic publication of files and folders, and checksums.

Everything protosonic writes appears under its final name only when it is complete: it is written to a hidden
``.<name>.<pid>.part`` beside the target, synced and renamed. A killed job leaves at most such a part file, which the
next writer of the same target removes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "fsync_path",
    "publish",
    "publish_folder",
    "publish_json",
    "publish_text",
    "sha256_of",
    "sha256_of_json",
]


def _part_path(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.part")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove_leftovers(target: Path) -> None:
    """Remove part files of this target, and of no other: ``a`` must leave alone those of ``a.b``."""
    part_name = re.compile(rf"\.{re.escape(target.name)}\.[0-9]+\.part")
    for path in target.parent.iterdir():
        if part_name.fullmatch(path.name):
            _remove(path)


def fsync_path(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def publish(target: Path) -> Iterator[Path]:
    """Write a file so that it appears complete or not at all.

    Parameters
    ----------
    target
        The final path; its folder is created.

    Yields
    ------
    The temporary path to write to. When the block ends normally it is synced and renamed to `target`; when it raises,
    it is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    part = _part_path(target)
    try:
        yield part
        fsync_path(part)
        part.replace(target)
        fsync_path(target.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def publish_folder(target: Path) -> Iterator[Path]:
    """Write a folder so that it appears complete or not at all; an older one of that name is replaced.

    Yields
    ------
    The temporary folder to fill.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    part = _part_path(target)
    part.mkdir()
    try:
        yield part
        for path in part.rglob("*"):
            fsync_path(path)
        fsync_path(part)
        _remove(target)
        part.replace(target)
        fsync_path(target.parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def publish_text(target: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with publish(target) as part:
        part.write_text(text, encoding="utf-8")


def publish_json(target: Path, content: Any) -> None:
    """Write a JSON file atomically, with sorted keys."""
    publish_text(target, json.dumps(content, indent=2, sort_keys=True) + "\n")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_json(content: Any) -> str:
    """Return the SHA-256 of a JSON-serialisable value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
