"""What the last run of a campaign was, whether one is working now, and how one holds the campaign."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from protosonic.campaign.records import RunRecord, read_record, write_record
from protosonic.errors import ConfigError, ProtosonicError, TransientError
from protosonic.publish import publish_json, sha256_of_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from protosonic.campaign.layout import Layout
    from protosonic.config import Settings

__all__ = [
    "DRY_RUN",
    "begin_run",
    "end_run",
    "hold_campaign",
    "recorded_run",
    "remove_stale_locks",
    "running_on",
    "timestamp",
]

DRY_RUN = {"-n", "--dry-run", "--dryrun"}
PATIENCE_S = 1.0
"""Whoever asks whether a run is working holds the lock for a moment."""


def timestamp() -> str:
    """Give the present time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def begin_run(
    layout: Layout,
    config: Path,
    settings: Settings,
    profile: str,
    cores: int | None,
    arguments: Sequence[str],
    *,
    site: Path | None = None,
) -> RunRecord | None:
    """Record that a run begins; in the working directory. A dry run leaves no record.

    The checked configuration is kept, so that the campaign can be recovered when the file has changed.
    """
    if DRY_RUN.intersection(arguments):
        return None
    content = settings.model_dump(mode="json")
    kept = layout.settings(sha256_of_json(content)[:16])
    if not kept.exists():
        publish_json(kept, content)
    file = str(config)
    if layout.last_run.exists() and config.resolve() == kept.resolve():  # recovered
        file = read_record(layout.last_run, RunRecord).config
    record = RunRecord(
        config=file,
        settings=str(kept),
        profile=profile,
        site=None if site is None else str(site),
        cores=cores,
        arguments=tuple(arguments),
        host=socket.gethostname(),
        started=timestamp(),
    )
    write_record(layout.last_run, record)
    return record


def end_run(layout: Layout, record: RunRecord | None, exit_code: int) -> None:
    """Record how a run ended."""
    if record is not None:
        write_record(
            layout.last_run, record.model_copy(update={"ended": timestamp(), "exit_code": exit_code})
        )


def recorded_run(layout: Layout) -> RunRecord:
    """Read how a campaign was run last.

    One that was run with plain snakemake left only its configuration; the default profile is taken then.

    Raises
    ------
    ConfigError
        The campaign was never run.
    """
    if layout.last_run.exists():
        return read_record(layout.last_run, RunRecord)
    kept = sorted((layout.work / "settings").glob("*.json"), key=lambda path: path.stat().st_mtime)
    if not kept:
        raise ConfigError(
            "nothing says how this campaign was run",
            file=layout.work,
            expected="run.json or settings/*.json",
            hint="Run it with protosonic run",
        )
    path = str(kept[-1].relative_to(layout.workdir))
    return RunRecord(
        config=path, settings=path, profile="default", cores=None, arguments=(), host="", started=""
    )


def running_on(layout: Layout) -> str | None:
    """Name the host on which a run works on the campaign; ``None`` where no run does.

    On the host of the run its lock proves it. From elsewhere the lock may not be seen (it depends on the file system), so
    what the run wrote counts, and a run that was killed looks as if it were working.
    """
    try:
        with layout.lock.open() as file:
            _, _, host = file.read().strip().partition(" ")
            if host in {"", socket.gethostname()}:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return host or socket.gethostname()
                return None
            return host
    except OSError:
        return None


@contextmanager
def hold_campaign(layout: Layout) -> Iterator[int]:
    """Hold the campaign, and clear what a killed run left behind; in the working directory.

    The lock is a file lock, so the system releases it however a run ends; the file is not empty while a run lasts.

    Yields
    ------
    The descriptor of the lock, for processes that shall hold it as well.

    Raises
    ------
    TransientError
        Another run is working on the campaign.
    """
    layout.work.mkdir(parents=True, exist_ok=True)
    with layout.lock.open("a+") as file:
        deadline = time.monotonic() + PATIENCE_S
        while not _lock(file.fileno()):
            if time.monotonic() > deadline:
                raise TransientError(
                    "another run is working on this campaign",
                    file=layout.lock,
                    hint="Wait for it, or stop it first",
                )
            time.sleep(PATIENCE_S / 10)
        if layout.lock.stat().st_size:
            print("The last run of this campaign was killed; going on where it stopped.")  # noqa: T201
            remove_stale_locks(layout)
        file.truncate(0)
        file.write(f"{os.getpid()} {socket.gethostname()}\n")
        file.flush()
        try:
            yield file.fileno()
        except ProtosonicError:  # nothing was started
            file.truncate(0)
            raise
        file.truncate(0)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def remove_stale_locks(layout: Layout) -> None:
    """Remove Snakemake's locks on this campaign; they survive a crash, but ours shows that nobody holds them.

    In the working directory.
    """
    ours = (f"{layout.work}/", f"{layout.results}/")
    for lock in Path(".snakemake", "locks").glob("*"):
        if any(line.startswith(ours) for line in lock.read_text().splitlines()):
            lock.unlink()
