"""``protosonic run``: start Snakemake on a campaign, safely again after a crash, and say how it ended."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from protosonic.campaign.execution import executor_of, find_site, place_arguments
from protosonic.campaign.inputs import find_inputs
from protosonic.campaign.last_run import DRY_RUN, begin_run, end_run, hold_campaign, recorded_run
from protosonic.campaign.layout import Layout
from protosonic.campaign.profiles import find_profile, require_sound_profile
from protosonic.campaign.records import Plan, RunRecord, read_record
from protosonic.campaign.slices import RULES_AFTER_SLICES, slices_of
from protosonic.campaign.slurm import settle_jobs, slurm_arguments
from protosonic.campaign.snakemake_process import Snakemake
from protosonic.campaign.view import view_arguments
from protosonic.config import load_settings
from protosonic.errors import (
    INTERRUPTED,
    AcceptanceError,
    ConfigError,
    IncompleteError,
    ProtosonicError,
    ResourceError,
    WorkflowError,
)
from protosonic.failures import Failure, read_failures
from protosonic.remote.urls import is_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from protosonic.campaign.brake import Brake
    from protosonic.campaign.inputs import InputFile
    from protosonic.campaign.snakemake_process import Ended
    from protosonic.campaign.view import View
    from protosonic.config import Settings

__all__ = [
    "refuse_closed",
    "run_again",
    "run_campaign",
    "snakemake_command",
    "workflow_folder",
]

DISK_IS_FULL_BYTES = 2**20
TARGETS_WITHOUT_INPUTS = {"train", "train_network", "train_held_out"}
"""Training simulates its own events."""


BYTES_PER_PARTITION = 10_000
"""Few events are smaller; tells from the inputs that a campaign can have very many partitions."""
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


def snakemake_command(
    config: Path,
    workdir: Path,
    profile: str,
    cores: int | None,
    arguments: Sequence[str] = (),
    *,
    site: Path | None = None,
) -> list[str]:
    """Give the snakemake command of a campaign.

    Raises
    ------
    ConfigError
        There is no such profile (Snakemake itself would run without any, silently), or the site file is wrong.
    """
    root = workflow_folder()
    folder = find_profile(profile, root)
    return [
        str(Path(sys.executable).with_name("snakemake")),
        # Some of them take all words up to the next option, so they come first.
        *place_arguments(folder, site, cores),
        "--snakefile",
        str(root / "workflow" / "Snakefile"),
        "--directory",
        str(workdir),
        "--configfile",
        str(config.resolve()),
        "--workflow-profile",
        str(folder),
        *arguments,
    ]


def run_campaign(
    config: Path,
    workdir: Path,
    profile: str,
    cores: int | None,
    arguments: Sequence[str],
    *,
    site: Path | None = None,
    targets: Sequence[str] = (),
    prepare: Callable[[Layout, Settings], None] = refuse_closed,
    view: View = "auto",
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
        CPU cores; all by default. On a cluster the most cores of all its jobs together.
    arguments
        More arguments for snakemake.
    site
        The site file; by default ``site.yaml`` beside the configuration, where it is there.
    targets
        Files to make, below the working directory; the whole campaign by default.
    prepare
        Called in the working directory before snakemake starts, while nothing else works on the campaign.
    view
        What is shown meanwhile; see :func:`protosonic.campaign.view.view_arguments`.

    Returns
    -------
    The exit code: 0, or that of the worst failure.

    Raises
    ------
    ConfigError
        The configuration or the profile is wrong, or the campaign was closed; nothing was started.
    """
    from protosonic.reporting.terminal import print_summary

    config = config.resolve()
    settings = load_settings(config)
    site = find_site(site, config)
    command = snakemake_command(config, workdir, profile, cores, [*targets, *arguments], site=site)
    folder = require_sound_profile(profile, workflow_folder())
    executor = executor_of(folder)
    if folder.name != profile:
        profile = str(folder)  # also from another folder
    workdir.mkdir(parents=True, exist_ok=True)
    with _working_directory(workdir):
        files = [] if TARGETS_WITHOUT_INPUTS.intersection(arguments) else find_inputs(settings)
        layout = Layout(settings.campaign.name)
        with hold_campaign(layout) as lock:
            # What the user adds comes later, and counts.
            place = command.index("--workflow-profile")
            command[place:place] = view_arguments(layout, view, arguments)
            if executor == "slurm":
                command[place:place] = slurm_arguments(layout)
            if not DRY_RUN.intersection(arguments) and (executor == "slurm" or _was_on_slurm(layout)):
                settle_jobs(layout)
            prepare(layout, settings)
            record = begin_run(layout, config, settings, profile, cores, arguments, site=site)
            print(shlex.join(command), flush=True)  # noqa: T201
            start = time.time()
            snakemake = Snakemake(command, layout, lock, settings.partition.stop_after_failed)
            if targets or arguments:
                ended = snakemake.run()
            else:
                ended = _run_in_slices(snakemake, settings, layout, files)
            seconds = time.time() - start
        failures = read_failures(layout.failures, start)
    layout = Layout(settings.campaign.name, workdir)
    is_complete = ended.code == 0 or any(
        failure.exit_code == AcceptanceError.exit_code for failure in failures
    )
    # With arguments of their own, such as --dry-run or --until, runs end well without a dataset.
    if is_complete and not targets and layout.campaign.exists() and not DRY_RUN.intersection(arguments):
        is_new = layout.campaign.stat().st_mtime >= start
        print_summary(layout, seconds if is_new else None)
    if ended.asked and ended.code:
        print("interrupted; the same command goes on where it ended", file=sys.stderr)  # noqa: T201
        exit_code = INTERRUPTED
    else:
        exit_code = _conclude(ended.code, failures, workdir)
    if snakemake.brake.was_pulled:
        exit_code = _all_failed(snakemake.brake, workdir)
    end_run(layout, record, exit_code)
    return exit_code


def _run_in_slices(
    snakemake: Snakemake, settings: Settings, layout: Layout, files: Sequence[InputFile]
) -> Ended:
    """Run a campaign: at once, unless it is so large that Snakemake shall see it in slices.

    A slice that fails does not hold back the others, as a partition does not; but what was interrupted ends.
    """
    if not layout.plan.exists() and _may_be_large(files, settings.partition.most_at_once):
        ended = snakemake.run(str(layout.plan))
        if ended.code:
            return ended
    slices = slices_of(read_record(layout.plan, Plan), settings) if layout.plan.exists() else []
    failed = None
    for number, bundles in enumerate(slices, 1):
        print(f"Slice {number} of {len(slices)}", flush=True)  # noqa: T201
        ended = snakemake.run(*(str(layout.bundle(name)) for name in bundles))
        if ended.interrupted:
            return ended
        if ended.code:
            failed = ended
    if failed:
        return failed
    return snakemake.run(*(("--allowed-rules", *RULES_AFTER_SLICES) if slices else ()))


def _was_on_slurm(layout: Layout) -> bool:
    """Say whether the last run of a campaign was killed while its jobs could be on SLURM."""
    if not layout.last_run.exists():
        return False
    last = read_record(layout.last_run, RunRecord)
    return last.ended is None and executor_of(find_profile(last.profile, workflow_folder())) == "slurm"


def _may_be_large(files: Sequence[InputFile], most_at_once: int) -> bool:
    if len(files) > most_at_once or any(is_url(file.path) for file in files):
        return True
    sizes = [Path(file.path).stat().st_size for file in files if Path(file.path).exists()]
    return sum(sizes) > BYTES_PER_PARTITION * most_at_once


def run_again(
    layout: Layout,
    *,
    targets: Sequence[str] = (),
    prepare: Callable[[Layout, Settings], None] = refuse_closed,
) -> int:
    """Run a campaign as it was run last: configuration, profile, site file, cores and arguments.

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
        site=None if record.site is None else Path(record.site),
        targets=targets,
        prepare=prepare,
    )


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
        "snakemake failed",
        found=f"exit code {code}",
        hint="Its messages are above, and all that it said is in .snakemake/log/ of the working directory",
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
