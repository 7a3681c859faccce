"""Processor, memory and limits of the machine, as this process may use them."""

from __future__ import annotations

import os
import platform
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from protosonic.errors import ResourceError
from protosonic.software.check import Check, fail, ok, warn

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Limits",
    "check_clock",
    "check_cores",
    "check_files",
    "check_memory",
    "check_processor",
    "read_limits",
]

FEW_FILES = 1024
MB = 10**6


class Limits(NamedTuple):
    """What control groups allow; ``None`` is no limit.

    Attributes
    ----------
    cores
        CPU time per time.
    memory_mb
        Memory.
    """

    cores: float | None
    memory_mb: int | None


def read_limits(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Limits:
    """Read the limits of this process's control group and of all groups around it.

    Parameters
    ----------
    root
        Where control groups are mounted, version 2 or 1.
    own
        The file that says in which groups this process is.
    """
    cores, memory = [], []
    for folder in _groups(root, own):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if not quota:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal():
            cores.append(int(quota) / int(period))
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(folder / name)
            # Version 1 says "no limit" with a number near 2^63.
            if text.isdecimal() and int(text) < 2**60:
                memory.append(int(text) // MB)
    return Limits(min(cores, default=None), min(memory, default=None))


def check_processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> Check:
    """Look at the instructions of the processor."""
    machine = platform.machine()
    if machine not in {"x86_64", "AMD64"}:
        return ok("processor", f"{machine}; the compiled kernel uses no special instructions here")
    flags: set[str] = set()
    for line in _read(cpuinfo).splitlines():
        if line.startswith("flags"):
            flags = set(line.partition(":")[2].split())
            break
    if not flags:
        return warn(
            "processor", f"{machine}; its instructions are unknown", "/proc/cpuinfo is needed to see them"
        )
    if not {"sse4_2", "popcnt"} <= flags:
        return fail(
            "processor",
            f"{machine} without SSE 4.2",
            "NumPy and PyArrow need x86-64-v2: take other nodes",
            ResourceError,
        )
    best = "AVX-512" if "avx512f" in flags else "AVX2" if {"avx2", "fma"} <= flags else ""
    if not best:
        return warn(
            "processor", f"{machine} without AVX2", "It works, at a fraction of the speed: take other nodes"
        )
    return ok("processor", f"{machine} with {best}")


def check_cores(limits: Limits) -> Check:
    """Compare the cores that this process may use with the time that its control group gives it."""
    cores = len(os.sched_getaffinity(0))
    found = f"{cores} of {os.cpu_count()} cores"
    if limits.cores is not None and limits.cores < cores:
        share = max(1, int(limits.cores))
        return warn(
            "cores",
            f"{found}, but CPU time of {limits.cores:g}",
            f"Run with --cores {share}: more jobs than that only slow each other down",
        )
    return ok("cores", found)


def check_memory(limits: Limits, needed_mb: int, jobs: int, meminfo: Path = Path("/proc/meminfo")) -> Check:
    """Compare the memory with what jobs need.

    Parameters
    ----------
    limits
        From :func:`read_limits`.
    needed_mb
        Memory of the largest job.
    jobs
        Jobs that run here at a time.
    """
    sizes = dict(line.split(":") for line in _read(meminfo).splitlines() if ":" in line)

    def size(name: str) -> int:
        return int(sizes.get(name, "0").split()[0]) * 1024 // MB

    total, available = size("MemTotal"), size("MemAvailable")
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    bounds = {"this machine": total, "its control group": limits.memory_mb}
    bounds["ulimit -v"] = None if soft == resource.RLIM_INFINITY else soft // MB
    holder, most = min(((name, mb) for name, mb in bounds.items() if mb), key=lambda pair: pair[1])
    found = f"{most} MB ({holder}), {available} MB available"
    if most < needed_mb:
        return fail(
            "memory",
            found,
            f"A job may need {needed_mb} MB: lower partition.max_mem_mb, or ask for more",
            ResourceError,
        )
    fitting = max(1, min(most, available) // needed_mb)
    if fitting < jobs:
        return warn(
            "memory",
            found,
            f"{jobs} jobs of up to {needed_mb} MB do not fit: --cores {fitting}, or a smaller partition.max_mem_mb",
        )
    return ok("memory", found)


def check_files() -> Check:
    """Look at the number of files that a process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FEW_FILES:
        raised = (
            f"ulimit -n {FEW_FILES}"
            if hard == resource.RLIM_INFINITY or hard >= FEW_FILES
            else "the administrator"
        )
        return warn("open files", f"{soft} at a time", f"Large campaigns need {FEW_FILES}: {raised}")
    return ok("open files", f"{soft} at a time")


def check_clock(now: float | None = None) -> Check:
    """Compare the clock with the time at which this software was installed."""
    now = time.time() if now is None else now
    installed = Path(__file__).stat().st_mtime
    text = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < installed:
        return fail(
            "clock",
            f"{text}, which is before this software was installed",
            "Set the clock (NTP): what must be computed again is told by times of files",
            ResourceError,
        )
    return ok("clock", text)


def _groups(root: Path, own: Path) -> Iterator[Path]:
    """Find the folders of this process's groups, from the innermost to the root."""
    for line in _read(own).splitlines():
        _, controllers, path = line.split(":", 2)
        bases = (
            [root] if not controllers else [root / name for name in (controllers, *controllers.split(","))]
        )
        for base in bases:
            folder = base / path.lstrip("/")
            # In a container the path may be that outside of it.
            while folder != base and folder.is_relative_to(base):
                yield folder
                folder = folder.parent
            yield base


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
