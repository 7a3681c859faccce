"""How the stages get at the bytes of an input file, on this machine or on another."""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from protosonic.errors import DataError, TransientError
from protosonic.events.formats import unreadable
from protosonic.events.source import AnyFile, Source
from protosonic.publish import sha256_of
from protosonic.remote.fetch import Fetcher
from protosonic.remote.protocol import BLOCK_BYTES
from protosonic.remote.urls import is_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from protosonic.campaign.records import FileRecord, Partition
    from protosonic.config.inputs import Remote
    from protosonic.remote.protocol import RemoteStatus

__all__ = ["fetcher_for", "is_unchanged", "open_partition_file", "open_unchanged"]

log = logging.getLogger(__name__)

STREAMED_FORMATS = frozenset({"native", "numl", "wirecell-hdf5"})
"""Formats of which single events can be read; archives are read from their start."""
STREAMED_SHARE = 0.25
"""What ``fetch: auto`` streams: partitions with at most this part of the hits of their file (docs/remote.md)."""


def fetcher_for(remote: Remote) -> Fetcher:
    """Make the reader of remote files that the configuration describes."""
    return Fetcher(remote.replicas, remote.attempts, remote.timeout_s)


def is_unchanged(file: FileRecord | Partition, url: str, status: RemoteStatus) -> bool:
    """Whether a server proves that a file is the one that was catalogued.

    Checksums can be compared between servers, times and ETags only with the server that gave them.
    """
    if file.remote is None or status.size != file.size:
        return False
    if status.adler32:
        return status.adler32 == file.remote.adler32
    if url != file.remote.url:
        return False
    if status.etag and file.remote.etag:
        return status.etag == file.remote.etag
    return bool(status.mtime_ns) and status.mtime_ns == file.mtime_ns


@contextmanager
def open_partition_file(partition: Partition, remote: Remote) -> Iterator[tuple[AnyFile, str]]:
    """Get at the input file of a partition, and prove that it is the one that was catalogued.

    Yields
    ------
    What the readers open, and the URL that serves it (empty for a file of this machine).

    Raises
    ------
    TransientError
        The file is gone or has changed since it was catalogued, or no server could give it.
    ResourceError
        The scratch folder is full.
    """
    if not is_url(partition.path):
        _check_unchanged(partition)
        yield Path(partition.path), ""
        return
    with fetcher_for(remote) as fetcher:
        if _may_stream(partition, remote):
            stream = fetcher.open_in_place(
                partition.path, lambda url, status: is_unchanged(partition, url, status)
            )
            if stream is not None:
                log.info("%s: read in place from %s", partition.path, stream.url)
                yield Source(partition.path, stream.open, stream.size), stream.url
                log.info("%s: %d of %d bytes came", partition.path, stream.bytes_read, stream.size)
                return
            log.info("%s: no server proves that its parts are those of the catalogued file", partition.path)
        with open_unchanged(partition.path, partition.sha256, fetcher) as (source, url):
            yield source, url


@contextmanager
def open_unchanged(path: str, sha256: str, fetcher: Fetcher) -> Iterator[tuple[Source, str]]:
    """Copy a remote file that was catalogued before.

    Raises
    ------
    TransientError
        As :func:`open_partition_file`.
    """
    with ExitStack() as stack:
        try:
            copy = stack.enter_context(fetcher.copy(path, sha256))
        except DataError as error:
            raise TransientError(
                error.message,
                file=path,
                hint="Bring the file back, or run the campaign again with -- --forcerun catalog to plan without it",
            ) from error
        log.info("%s: %d bytes copied from %s", path, copy.size, copy.url)
        yield Source(path, copy.path, copy.size), copy.url


def _may_stream(partition: Partition, remote: Remote) -> bool:
    if remote.fetch != "auto":
        return remote.fetch == "stream"
    # A file of one block comes whole in any case, and a copy of it is proven.
    return (
        partition.format in STREAMED_FORMATS
        and partition.share <= STREAMED_SHARE
        and partition.size > BLOCK_BYTES
    )


def _check_unchanged(partition: Partition) -> None:
    path = Path(partition.path)
    try:
        status = path.stat()
    except OSError as error:
        raise TransientError(
            str(unreadable(path, error)),
            hint="Bring the file back, or run the campaign again to plan without it",
        ) from error
    if (status.st_size, status.st_mtime_ns) != (partition.size, partition.mtime_ns) and (
        sha256_of(path) != partition.sha256
    ):
        raise TransientError(
            "the file has changed since it was catalogued",
            file=path,
            hint="Run the campaign again: the catalog will read it anew",
        )
