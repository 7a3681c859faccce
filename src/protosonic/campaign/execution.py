"""Where the jobs of a campaign run: what the workflow profile and the site file mean for Snakemake's command."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from protosonic.campaign.profiles import profile_content, profile_file
from protosonic.config import load_site
from protosonic.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from protosonic.config import Site

__all__ = ["SITE_FILE", "executor_of", "find_site", "place_arguments"]

SITE_FILE = "site.yaml"
"""Taken where it stands beside the configuration."""


def find_site(site: Path | None, config: Path) -> Path | None:
    """Find the site file: the one that is named, else ``site.yaml`` beside the configuration, else none."""
    if site is None and (config.parent / SITE_FILE).is_file():
        site = config.parent / SITE_FILE
    return None if site is None else site.resolve()


def executor_of(profile: Path) -> str:
    """Name the executor plugin of a profile, given as its folder: ``local`` where it names none."""
    return str(profile_content(profile_file(profile)).get("executor", "local"))


def place_arguments(profile: Path, site: Path | None, cores: int | None) -> list[str]:
    """Give the options of Snakemake that say where jobs run and how many.

    Parameters
    ----------
    profile
        Folder of the workflow profile.
    site
        The site file, if there is one. Accounts and partitions of it count only on SLURM.
    cores
        What the user asked for: the cores to use here, all by default, or on a cluster the most cores of all jobs
        together, without a limit by default.

    Raises
    ------
    ConfigError
        The site file is wrong, or cannot be combined with the profile.
    """
    wanted = None if site is None else load_site(site)
    content = profile_content(profile_file(profile))
    executor = content.get("executor", "local")
    arguments = []
    if wanted is not None:
        if executor != "local" and wanted.jobs is not None:
            arguments += ["--jobs", str(wanted.jobs)]
        caps = {"gpu_clients": wanted.gpu_clients, "wan_mbps": wanted.wan_mbps}
        arguments += _merged(profile, content, "resources", caps)
        if executor == "slurm":
            arguments += _slurm_arguments(profile, content, wanted)
    if cores is not None or executor == "local":
        arguments += ["--cores", str(cores or len(os.sched_getaffinity(0)))]
    return arguments


def _slurm_arguments(profile: Path, content: dict[str, Any], site: Site) -> list[str]:
    # repr makes them strings for Snakemake, which evaluates them as Python.
    texts = {
        "slurm_account": site.account,
        "slurm_partition": site.partition,
        "slurm_extra": site.extra,
    }
    quoted = {name: None if text is None else repr(text) for name, text in texts.items()}
    arguments = _merged(profile, content, "default-resources", quoted)
    if site.qos is not None:
        arguments += ["--slurm-qos", site.qos]
    return arguments


def _merged(profile: Path, content: dict[str, Any], key: str, values: dict[str, Any]) -> list[str]:
    """Give an option of Snakemake with what the profile says and what replaces it; Snakemake takes one or the other."""
    new = {name: value for name, value in values.items() if value is not None}
    if not new:
        return []
    before = content.get(key) or {}
    if isinstance(before, list):
        before = dict(entry.split("=", 1) for entry in before)
    if not isinstance(before, dict) or content.get("__use_yte__"):
        raise ConfigError(
            f"{', '.join(new)} of the site file cannot be put among the {key} of this profile",
            file=profile,
            where=key,
            expected="a mapping without templates",
            hint="Say it in the profile itself",
        )
    old = {name: os.path.expandvars(str(value)) for name, value in before.items()}
    return [f"--{key}", *(f"{name}={value}" for name, value in (old | new).items())]
