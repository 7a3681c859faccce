"""``protosonic doctor``: whether a node and a profile are fit for a campaign."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from protosonic.campaign.launch import workflow_folder
from protosonic.campaign.partitioning import memory_of_scoring
from protosonic.config import load_settings
from protosonic.errors import ConfigError
from protosonic.software.campaign_checks import (
    check_endpoints,
    check_inputs,
    check_kernel,
    check_model,
    check_pictures,
    check_profile_of,
)
from protosonic.software.check import Check, fail, ok
from protosonic.software.disk_checks import check_cache, check_folder
from protosonic.software.machine_checks import (
    check_clock,
    check_cores,
    check_files,
    check_memory,
    check_processor,
    read_limits,
)
from protosonic.software.python_checks import check_encoding, check_packages, check_python

if TYPE_CHECKING:
    from collections.abc import Iterator

    from protosonic.config.model import Settings

__all__ = ["examine"]

DEFAULT_MB = 1500
"""``partition.max_mem_mb`` where there is no configuration."""


def examine(config: Path | None, workdir: Path, profile: str) -> Iterator[Check]:
    """Look at everything that a campaign needs here.

    Parameters
    ----------
    config
        Its configuration; without one only the node and the profile are looked at.
    workdir
        Its working directory; it need not exist.
    profile
        Name or folder of its profile.

    Yields
    ------
    What was found, in the order in which it should be mended.
    """
    root = workflow_folder()
    yield check_python()
    yield check_packages(root / "envs" / "constraints.txt")
    yield check_encoding()
    yield check_pictures()
    settings: Settings | None = None
    if config is not None:
        try:
            settings = load_settings(config)
        except ConfigError as error:
            yield fail("configuration", str(error), error.hint or "protosonic config explain KEY says more")
        else:
            yield ok("configuration", str(config))
    yield from check_profile_of(profile, root)
    yield from _machine(settings)
    yield from check_folder("workdir", workdir, needs_locks=True)
    temporary = Path(tempfile.gettempdir())
    yield from check_folder("tmpdir", temporary, needs_locks=False)
    yield check_cache()
    yield check_kernel()
    yield check_model(settings, workdir)
    if settings is not None:
        yield check_inputs(settings, workdir)
        yield from check_endpoints(settings, workdir)


def _machine(settings: Settings | None) -> Iterator[Check]:
    limits = read_limits()
    needed = DEFAULT_MB
    if settings is not None:
        needed = settings.partition.max_mem_mb + memory_of_scoring(settings.inference, 1)
    yield check_processor()
    yield check_cores(limits)
    yield check_memory(limits, needed, len(os.sched_getaffinity(0)))
    yield check_files()
    yield check_clock()
