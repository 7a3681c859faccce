"""Jobs of Snakemake as Kubernetes jobs on a shared volume, through ``kubectl``.

Snakemake's own Kubernetes executor takes for granted that there is no shared file system and copies every file from and
to an object store. The stages of a campaign work in one folder, so here the pods mount the volume that holds it, and the
generic cluster executor calls these functions.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from protosonic.errors import ConfigError, TransientError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["delete_jobs", "make_manifest", "read_properties", "read_template", "state_of_job", "submit_job"]

PLACEHOLDER = "registry.example.org/"
KUBECTL = "kubectl"
GRACE_S = 600
"""Added to the time limit of a job for the start of its pod, which Kubernetes counts as well."""
_NOT_FOUND = "(NotFound)"


def read_template(path: Path) -> dict[str, Any]:
    """Read the manifest that all jobs are made from.

    Raises
    ------
    ConfigError
        It is no manifest of a job with one container, or still names the placeholder image.
    """
    try:
        template = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the template of jobs: {error}", file=path) from error
    try:
        kind = template["kind"]
        containers = template["spec"]["template"]["spec"]["containers"]
        image = containers[0]["image"]
    except (KeyError, IndexError, TypeError) as error:
        raise ConfigError(
            "this is no template of jobs",
            file=path,
            expected="kind: Job with spec.template.spec.containers[0].image",
            found=f"nothing at {error}",
        ) from error
    if kind != "Job" or len(containers) != 1:
        raise ConfigError(
            "this is no template of jobs",
            file=path,
            expected="kind: Job with one container",
            found=f"kind: {kind} with {len(containers)}",
        )
    if str(image).startswith(PLACEHOLDER):
        raise ConfigError(
            "the image is still the placeholder",
            file=path,
            where="spec.template.spec.containers[0].image",
            found=image,
            hint="Copy the profile's folder, edit job.yaml in it, and name the copy with --profile",
        )
    assert isinstance(template, dict)
    return template


def read_properties(script: Path) -> dict[str, Any]:
    """Read what Snakemake says about a job in its job script.

    Raises
    ------
    ConfigError
        This is no job script of Snakemake.
    """
    try:
        match = re.search(
            r"^# properties = (\{.*\})$", script.read_text(encoding="utf-8"), flags=re.MULTILINE
        )
    except OSError as error:
        raise ConfigError(f"cannot read the job script: {error.strerror}", file=script) from error
    if match is None:
        raise ConfigError(
            "this is no job script of Snakemake", file=script, expected="a line '# properties = {…}'"
        )
    properties: dict[str, Any] = json.loads(match[1])
    return properties


def make_manifest(template: dict[str, Any], script: Path) -> dict[str, Any]:
    """Fill the template for one job: name, command, CPU, memory and time limit.

    Parameters
    ----------
    template
        From :func:`read_template`; it is not changed.
    script
        Snakemake's job script, on the shared volume.
    """
    properties = read_properties(script)
    resources = properties.get("resources", {})
    manifest = copy.deepcopy(template)
    rule = re.sub(r"[^a-z0-9]+", "-", str(properties.get("rule", properties.get("groupid", "group"))).lower())
    digest = hashlib.sha256(f"{script} {script.stat().st_mtime_ns}".encode()).hexdigest()[:16]
    metadata = manifest.setdefault("metadata", {})
    metadata["name"] = f"protosonic-{rule[:30].strip('-')}-{digest}"
    metadata.setdefault("labels", {})["protosonic/rule"] = rule[:60].strip("-")
    pod = manifest["spec"]["template"]
    pod.setdefault("metadata", {}).setdefault("labels", {}).update(metadata["labels"])
    if "runtime" in resources:
        manifest["spec"]["activeDeadlineSeconds"] = int(resources["runtime"]) * 60 + GRACE_S
    container = pod["spec"]["containers"][0]
    container.setdefault("name", "snakemake")
    container["command"] = ["/bin/sh", str(script)]
    container["workingDir"] = str(Path.cwd())
    wanted = container.setdefault("resources", {})
    wanted.setdefault("requests", {})["cpu"] = str(properties.get("threads", 1))
    if "mem_mb" in resources:
        memory = f"{int(resources['mem_mb'])}M"
        wanted["requests"]["memory"] = memory
        wanted.setdefault("limits", {})["memory"] = memory
    return manifest


def submit_job(template: Path, script: Path) -> str:
    """Create the job of a job script and give its name, with the namespace: ``NAMESPACE/NAME``.

    Raises
    ------
    ConfigError
        The template or the script is wrong, or Kubernetes refuses the job.
    TransientError
        ``kubectl`` cannot be run.
    """
    manifest = make_manifest(read_template(template), script.absolute())
    _kubectl(["create", "--filename", "-"], json.dumps(manifest))
    return f"{manifest['metadata'].get('namespace', '')}/{manifest['metadata']['name']}"


def state_of_job(job: str) -> str:
    """Give ``running``, ``success`` or ``failed``.

    A job that somebody has deleted has failed. While the API server does not answer, jobs are said to be running: the
    executor would end the whole campaign otherwise.
    """
    namespace, name = _split(job)
    try:
        status = json.loads(_kubectl([*namespace, "get", "job", name, "--output", "json"])).get("status", {})
    except ConfigError as error:
        return "failed" if _NOT_FOUND in str(error.found) else "running"
    except (TransientError, json.JSONDecodeError):
        return "running"
    for condition in status.get("conditions") or []:
        if condition.get("status") == "True" and condition.get("type") in {"Complete", "Failed"}:
            return "success" if condition["type"] == "Complete" else "failed"
    return "running"


def delete_jobs(jobs: Sequence[str]) -> None:
    """Delete jobs and their pods, without waiting for them to end.

    Raises
    ------
    ConfigError, TransientError
        ``kubectl`` fails.
    """
    by_namespace: dict[tuple[str, ...], list[str]] = {}
    for job in jobs:
        namespace, name = _split(job)
        by_namespace.setdefault(tuple(namespace), []).append(name)
    for options, names in by_namespace.items():
        _kubectl([*options, "delete", "job", "--ignore-not-found", "--wait=false", *names])


def _split(job: str) -> tuple[list[str], str]:
    namespace, _, name = job.rpartition("/")
    return (["--namespace", namespace] if namespace else []), name


def _kubectl(arguments: list[str], text: str = "") -> str:
    command = [KUBECTL, *arguments]
    try:
        process = subprocess.run(
            command, input=text, capture_output=True, text=True, check=False, env=os.environ
        )
    except OSError as error:
        raise TransientError(
            f"kubectl cannot be run: {error.strerror}", file=KUBECTL, hint="Install it, or put it on the path"
        ) from error
    if process.returncode != 0:
        raise ConfigError(
            f"'{' '.join(command)}' fails", found=process.stderr.strip()[-500:], hint="Try it by hand"
        )
    return process.stdout
