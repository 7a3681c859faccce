"""Folders that a campaign writes to: room, kind of file system, speed and locks."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from protosonic.errors import ConfigError, ResourceError, TransientError
from protosonic.software.check import Check, fail, ok, warn
from protosonic.user_cache import cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_cache", "check_folder", "file_system_of"]

GB = 10**9
NO_ROOM = 1 * GB
LITTLE_ROOM = 10 * GB
SLOW_S = 0.05
"""For one small file, written to the disk and renamed."""
ROUNDS = 20
SKEW_S = 2.0
NETWORK = re.compile(
    r"nfs\d*|lustre|gpfs|beegfs|ceph|cifs|smb3|smbfs|afs|panfs|pvfs2|orangefs|9p|virtiofs|fuse\.(?!overlay).*|glusterfs"
)


def check_folder(
    name: str, folder: Path, *, needs_locks: bool, mounts: Path = Path("/proc/self/mountinfo")
) -> Iterator[Check]:
    """Look at a folder, by writing small files to it that are removed again.

    Parameters
    ----------
    name
        What it is for, in the names of the checks.
    folder
        The folder; where it is missing, the folder around it that it would be made in.
    needs_locks
        Whether campaigns lock files in it.
    mounts
        The table of mounts.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.absolute().parent
    room = _check_room(f"{name}: room", folder)
    yield room
    yield _check_kind(f"{name}: file system", folder, mounts)
    try:
        with tempfile.TemporaryDirectory(prefix=".protosonic-doctor-", dir=folder) as scratch:
            yield _check_speed(f"{name}: speed", Path(scratch))
            yield _check_skew(f"{name}: clock", Path(scratch))
            if needs_locks:
                yield _check_locks(f"{name}: locks", Path(scratch))
    except OSError as error:
        error_class = ResourceError if room.error else ConfigError
        yield fail(
            f"{name}: writing",
            f"{folder}: {error.strerror}",
            "Take another folder, or make it writable for this user",
            error_class,
        )


def check_cache() -> Check:
    """Look whether the user's folder for caches can be written to; Snakemake does not start without it."""
    folder = cache_folder().parent
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return fail(
            "cache", f"{folder} cannot be made or written to", "Set XDG_CACHE_HOME to a folder of this user"
        )
    return ok("cache", str(folder))


def file_system_of(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Give the kind of the file system that holds a folder; empty where that is unknown."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    place, kind = "", ""
    target = folder.resolve()
    for line in lines:
        before, _, after = line.partition(" - ")
        mount = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), before.split()[4])
        # Later mounts hide earlier ones at the same place.
        if target.is_relative_to(mount) and len(mount) >= len(place):
            place, kind = mount, after.split()[0]
    return kind


def _check_room(name: str, folder: Path) -> Check:
    usage = shutil.disk_usage(folder)
    status = os.statvfs(folder)
    found = f"{usage.free / GB:.1f} GB free at {folder}"
    if usage.free < NO_ROOM:
        return fail(name, found, "Free disk space, or take another folder", ResourceError)
    # Some file systems make files without counting them.
    if status.f_files and status.f_favail < 1000:
        return fail(
            name, f"{status.f_favail} more files can be made at {folder}", "Remove files", ResourceError
        )
    if usage.free < LITTLE_ROOM:
        return warn(
            name, found, "A large campaign needs more: about 100 bytes a hit for good, and more on the way"
        )
    return ok(name, found)


def _check_kind(name: str, folder: Path, mounts: Path) -> Check:
    kind = file_system_of(folder, mounts)
    if NETWORK.fullmatch(kind):
        return warn(
            name,
            f"{kind}, over the network",
            "It works; every job costs tens of calls to its server: make jobs of 15 minutes or more, and let --latency-wait "
            "be 60",
        )
    if kind in {"tmpfs", "ramfs"}:
        return warn(
            name, f"{kind}, which is memory", "It is gone after a restart, and counts as memory of the job"
        )
    return ok(name, kind or "unknown")


def _check_speed(name: str, scratch: Path) -> Check:
    """Do what every output of a job goes through: write, flush to the disk, rename."""
    times = []
    for number in range(ROUNDS):
        start = time.perf_counter()
        part = scratch / f"{number}.part"
        with part.open("wb") as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
        part.replace(scratch / "file")
        times.append(time.perf_counter() - start)
    typical = statistics.median(times)
    found = f"{typical * 1e3:.1f} ms for a file to be written, synced and renamed ({max(times) * 1e3:.1f} ms at most)"
    if typical > SLOW_S:
        return warn(name, found, "A faster disk would help: a partition makes a dozen files")
    return ok(name, found)


def _check_skew(name: str, scratch: Path) -> Check:
    """Compare the clock of this machine with that of the file server."""
    before = time.time()
    path = scratch / "clock"
    path.touch()
    stamp = path.stat().st_mtime
    # Times of files may be counted in whole seconds.
    skew = max(before - stamp - 1, stamp - time.time(), 0.0)
    if skew > SKEW_S:
        return fail(
            name,
            f"times of files are {skew:.0f} s away from the clock of this machine",
            "Set both clocks (NTP): what must be computed again is told by times of files",
            TransientError,
        )
    return ok(name, "times of files agree with the clock")


def _check_locks(name: str, scratch: Path) -> Check:
    """Take a lock that another open file of the same name must not get."""
    mend = "Mount the file system with locks (for NFS without nolock; for Lustre with flock), or take another"
    with (scratch / "lock").open("w") as first, (scratch / "lock").open("w") as second:
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return fail(name, f"files cannot be locked: {error.strerror}", mend)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return ok(name, "files can be locked")
    return fail(name, "a lock does not keep others out", mend)
