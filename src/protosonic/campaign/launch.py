"""``protosonic run``: start Snakemake on a campaign, safely again after a crash, and say how it ended."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from protosonic.campaign.inputs import find_inputs
from protosonic.campaign.layout import Layout
from protosonic.campaign.profiles import find_profile, require_sound_profile
from protosonic.config import load_settings
from protosonic.errors import (
    AcceptanceError,
    ConfigError,
    ProtosonicError,
    ResourceError,
    TransientError,
    WorkflowError,
)
from protosonic.failures import Failure, read_failures

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["run_campaign", "snakemake_command", "workflow_folder"]

DISK_IS_FULL_BYTES = 2**20
TARGETS_WITHOUT_INPUTS = {"train", "train_network", "train_held_out"}
"""Training simulates its own events."""


def workflow_folder() -> Path:
    """Find the folder that holds ``workflow/`` and ``rules/``: in the package, or in the checkout around it."""
    package = Path(__file__).resolve().parents[1]
    for root in (package / "_workflow", package.parents[1]):
        if (root / "workflow" / "Snakefile").is_file():
            return root
    raise ConfigError(
        "the workflow is missing from this installation", file=package, hint="Install protosonic again"
    )


def snakemake_command(
    config: Path, workdir: Path, profile: str, cores: int | None, arguments: Sequence[str] = ()
) -> list[str]:
    """Give the snakemake command of a campaign.

    Raises
    ------
    ConfigError
        There is no such profile (Snakemake itself would run without any, silently).
    """
    root = workflow_folder()
    folder = find_profile(profile, root)
    return [
        str(Path(sys.executable).with_name("snakemake")),
        "--snakefile",
        str(root / "workflow" / "Snakefile"),
        "--directory",
        str(workdir),
        "--configfile",
        str(config.resolve()),
        "--workflow-profile",
        str(folder),
        "--cores",
        str(cores or len(os.sched_getaffinity(0))),
        *arguments,
    ]


def run_campaign(
    config: Path, workdir: Path, profile: str, cores: int | None, arguments: Sequence[str]
) -> int:
    """Run a campaign to its end and print what came out.

    Parameters
    ----------
    config
        Configuration file.
    workdir
        Working directory; created where it is missing.
    profile
        Name or folder of the workflow profile.
    cores
        CPU cores; all by default.
    arguments
        More arguments for snakemake.

    Returns
    -------
    The exit code: 0, or that of the worst failure.

    Raises
    ------
    ConfigError
        The configuration or the profile is wrong; nothing was started.
    """
    from protosonic.reporting.terminal import print_summary

    config = config.resolve()
    settings = load_settings(config)
    command = snakemake_command(config, workdir, profile, cores, arguments)
    require_sound_profile(profile, workflow_folder())
    workdir.mkdir(parents=True, exist_ok=True)
    with _working_directory(workdir):
        if not TARGETS_WITHOUT_INPUTS.intersection(arguments):
            find_inputs(settings)
        layout = Layout(settings.campaign.name)
        with _only_run(layout) as lock:
            print(shlex.join(command), flush=True)  # noqa: T201
            start = time.time()
            code = _run(command, lock)
            seconds = time.time() - start
        failures = read_failures(layout.failures, start)
    layout = Layout(settings.campaign.name, workdir)
    is_complete = code == 0 or any(failure.exit_code == AcceptanceError.exit_code for failure in failures)
    # With arguments of their own, such as --dry-run or --until, runs end well without a dataset.
    if is_complete and layout.campaign.exists() and not {"-n", "--dry-run", "--dryrun"} & set(arguments):
        is_new = layout.campaign.stat().st_mtime >= start
        print_summary(layout, seconds if is_new else None)
    return _conclude(code, failures, workdir)


def _run(command: list[str], lock: int) -> int:
    """Run snakemake in the present folder, which is the working directory already, until it ends by itself."""
    command = [*command]
    command[command.index("--directory") + 1] = "."
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    # The lock is inherited, so it is held while snakemake lives, also when this process is killed.
    with subprocess.Popen(command, env=os.environ | {"PATH": path}, pass_fds=[lock]) as process:
        # A terminal sends Ctrl-C to snakemake as well, which then ends its jobs; a batch system only asks us to end.
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        terminate = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            return process.wait()
        finally:
            signal.signal(signal.SIGINT, interrupt)
            signal.signal(signal.SIGTERM, terminate)


def _conclude(code: int, failures: list[Failure], workdir: Path) -> int:
    """Print why a run failed and choose its exit code."""
    if code == 0:
        return 0
    # An endpoint that is down fails every partition with the same words.
    for message in dict.fromkeys(failure.message for failure in failures):
        print(f"error: {message}", file=sys.stderr)  # noqa: T201
    # Too many quarantined events matters only when nothing worse happened.
    worst = [failure for failure in failures if failure.exit_code != AcceptanceError.exit_code] or failures
    if worst:
        return worst[0].exit_code
    error: ProtosonicError = WorkflowError(
        "snakemake failed", found=f"exit code {code}", hint="Its messages are above"
    )
    if shutil.disk_usage(workdir).free < DISK_IS_FULL_BYTES:
        # Then no job could leave a record.
        error = ResourceError(
            "the disk is full", file=workdir, hint="Free disk space and run the same command again"
        )
    print(f"error: {error}", file=sys.stderr)  # noqa: T201
    return error.exit_code


@contextmanager
def _working_directory(path: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _only_run(layout: Layout) -> Iterator[int]:
    """Hold the campaign for this run, and clear what a killed run left behind.

    The lock is a file lock, so the system releases it however a run ends; the file is not empty while a run lasts.
    """
    layout.work.mkdir(parents=True, exist_ok=True)
    path = layout.work / "run.lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TransientError(
                "another run is working on this campaign", file=path, hint="Wait for it, or stop it first"
            ) from error
        if path.stat().st_size:
            print("The last run of this campaign was killed; going on where it stopped.")  # noqa: T201
            _remove_stale_locks(layout)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield file.fileno()
        file.truncate(0)


def _remove_stale_locks(layout: Layout) -> None:
    """Remove Snakemake's locks on this campaign; they survive a crash, but ours shows that nobody holds them."""
    ours = (f"{layout.work}/", f"{layout.results}/")
    for lock in Path(".snakemake", "locks").glob("*"):
        if any(line.startswith(ours) for line in lock.read_text().splitlines()):
            lock.unlink()
