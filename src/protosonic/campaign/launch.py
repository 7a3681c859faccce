"""``protosonic run``: start Snakemake on a campaign, safely again after a crash, and say how it ended."""

from __future__ import annotations

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

from protosonic.campaign.brake import Brake
from protosonic.campaign.inputs import find_inputs
from protosonic.campaign.last_run import DRY_RUN, begin_run, end_run, hold_campaign, recorded_run
from protosonic.campaign.layout import Layout
from protosonic.config import load_settings
from protosonic.errors import (
    AcceptanceError,
    ConfigError,
    IncompleteError,
    ProtosonicError,
    ResourceError,
    WorkflowError,
)
from protosonic.failures import Failure, read_failures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from protosonic.config import Settings

__all__ = [
    "profile_folder",
    "refuse_closed",
    "run_again",
    "run_campaign",
    "snakemake_command",
    "workflow_folder",
]

DISK_IS_FULL_BYTES = 2**20
TARGETS_WITHOUT_INPUTS = {"train", "train_network", "train_held_out"}
"""Training simulates its own events."""


WATCH_S = 2.0
LONGEST_WATCH_S = 30.0
"""Between looks at the partitions, until the first is done: often at first, then rarely."""
FORCING = {"-f", "--force", "-F", "--forceall"}


def refuse_closed(layout: Layout, settings: Settings) -> None:  # noqa: ARG001 (as all that prepares a run)
    """Refuse to run a closed campaign again.

    Raises
    ------
    ConfigError
        It was closed.
    """
    if layout.closed.exists():
        raise ConfigError(
            "the campaign was closed with known failures",
            file=layout.closed,
            hint="protosonic run --reopen opens it again; what it published elsewhere stays as it is",
        )


def workflow_folder() -> Path:
    """Find the folder that holds ``workflow/`` and ``rules/``: in the package, or in the checkout around it."""
    package = Path(__file__).resolve().parents[1]
    for root in (package / "_workflow", package.parents[1]):
        if (root / "workflow" / "Snakefile").is_file():
            return root
    raise ConfigError(
        "the workflow is missing from this installation", file=package, hint="Install protosonic again"
    )


def profile_folder(profile: str) -> Path:
    """Find the folder of a workflow profile, which is given by its name or as a folder.

    Raises
    ------
    ConfigError
        There is no such profile (Snakemake itself would run without any, silently).
    """
    profiles = workflow_folder() / "workflow" / "profiles"
    folder = profiles / profile if (profiles / profile).is_dir() else Path(profile)
    if not folder.is_dir():
        known = sorted(path.name for path in profiles.iterdir())
        raise ConfigError(
            f"there is no profile '{profile}'", expected=f"a folder, or one of {', '.join(known)}"
        )
    return folder.resolve()


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
    folder = profile_folder(profile)
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
    config: Path,
    workdir: Path,
    profile: str,
    cores: int | None,
    arguments: Sequence[str],
    *,
    targets: Sequence[str] = (),
    prepare: Callable[[Layout, Settings], None] = refuse_closed,
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
    targets
        Files to make, below the working directory; the whole campaign by default.
    prepare
        Called in the working directory before snakemake starts, while nothing else works on the campaign.

    Returns
    -------
    The exit code: 0, or that of the worst failure.

    Raises
    ------
    ConfigError
        The configuration is wrong, or the campaign was closed; nothing was started.
    """
    from protosonic.reporting.terminal import print_summary

    config = config.resolve()
    settings = load_settings(config)
    command = snakemake_command(config, workdir, profile, cores, [*targets, *arguments])
    if profile_folder(profile).name != profile:
        profile = str(profile_folder(profile))  # also from another folder
    workdir.mkdir(parents=True, exist_ok=True)
    with _working_directory(workdir):
        if not TARGETS_WITHOUT_INPUTS.intersection(arguments):
            find_inputs(settings)
        layout = Layout(settings.campaign.name)
        with hold_campaign(layout) as lock:
            prepare(layout, settings)
            record = begin_run(layout, config, settings, profile, cores, arguments)
            print(shlex.join(command), flush=True)  # noqa: T201
            start = time.time()
            brake = Brake(layout, settings.partition.stop_after_failed)
            code = _run(command, lock, brake)
            seconds = time.time() - start
        failures = read_failures(layout.failures, start)
    layout = Layout(settings.campaign.name, workdir)
    is_complete = code == 0 or any(failure.exit_code == AcceptanceError.exit_code for failure in failures)
    # With arguments of their own, such as --dry-run or --until, runs end well without a dataset.
    if is_complete and not targets and layout.campaign.exists() and not DRY_RUN.intersection(arguments):
        is_new = layout.campaign.stat().st_mtime >= start
        print_summary(layout, seconds if is_new else None)
    exit_code = _conclude(code, failures, workdir)
    if brake.was_pulled:
        exit_code = _all_failed(brake, workdir)
    end_run(layout, record, exit_code)
    return exit_code


def run_again(
    layout: Layout,
    *,
    targets: Sequence[str] = (),
    prepare: Callable[[Layout, Settings], None] = refuse_closed,
) -> int:
    """Run a campaign as it was run last: configuration, profile, cores and arguments.

    Parameters and errors are those of :func:`run_campaign`.
    """
    record = recorded_run(layout)
    return run_campaign(
        layout.workdir / record.settings,
        layout.workdir,
        record.profile,
        record.cores,
        # What forced jobs then would force them again.
        [argument for argument in record.arguments if argument not in FORCING],
        targets=targets,
        prepare=prepare,
    )


def _run(command: list[str], lock: int, brake: Brake) -> int:
    """Run snakemake in the present folder, which is the working directory already, until it ends or must be stopped."""
    command = [*command]
    command[command.index("--directory") + 1] = "."
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    # The lock is inherited, so it is held while snakemake lives, also when this process is killed.
    with subprocess.Popen(command, env=os.environ | {"PATH": path}, pass_fds=[lock]) as process:
        # A terminal sends Ctrl-C to snakemake as well, which then ends its jobs; a batch system only asks us to end.
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        terminate = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            pause = WATCH_S
            while not brake.is_pulled():
                try:
                    return process.wait(pause)
                except subprocess.TimeoutExpired:
                    pause = min(1.5 * pause, LONGEST_WATCH_S)
            process.terminate()
            return process.wait()
        finally:
            signal.signal(signal.SIGINT, interrupt)
            signal.signal(signal.SIGTERM, terminate)


def _all_failed(brake: Brake, workdir: Path) -> int:
    error = IncompleteError(
        f"the run was stopped, because its first {brake.failed} partitions all failed for good",
        file=workdir,
        hint="The cause concerns the whole campaign: see 'protosonic status --failed'. Mend it and call 'protosonic "
        "recover --all'. partition.stop_after_failed sets the number",
    )
    print(f"error: {error}", file=sys.stderr)  # noqa: T201
    return error.exit_code


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
