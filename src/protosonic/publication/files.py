"""The files of a publication: copied with checksums, and read again."""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING, NamedTuple

from protosonic.publish import publish

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PublishedFile", "checksums", "copy_file"]

BLOCK_BYTES = 2**22


class PublishedFile(NamedTuple):
    """A file of a publication.

    Attributes
    ----------
    path
        Below the folder of the publication.
    size
        In bytes.
    adler32
        8 hexadecimal digits, as Rucio and MetaCat have it.
    sha256
        64 hexadecimal digits.
    """

    path: str
    size: int
    adler32: str
    sha256: str


def copy_file(source: Path, folder: Path, path: str) -> PublishedFile:
    """Copy a file into the folder of a publication; it appears there when it is complete."""
    target = folder / path
    with source.open("rb") as reader, publish(target) as part, part.open("wb") as writer:
        while block := reader.read(BLOCK_BYTES):
            writer.write(block)
    return checksums(folder, path)


def checksums(folder: Path, path: str) -> PublishedFile:
    """Read a file of a publication and sum it up."""
    adler, sha, size = 1, hashlib.sha256(), 0
    with (folder / path).open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            adler = zlib.adler32(block, adler)
            sha.update(block)
            size += len(block)
    return PublishedFile(path, size, f"{adler:08x}", sha.hexdigest())
