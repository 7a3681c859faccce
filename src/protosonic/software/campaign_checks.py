"""What one campaign needs: its configuration, inputs, model, endpoints, profile and the tools of its site."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from protosonic.campaign.inputs import find_inputs
from protosonic.campaign.profiles import check_profile, find_profile, profile_content, profile_file
from protosonic.config.model import BUNDLED
from protosonic.errors import ModelError, ProtosonicError, ServiceError
from protosonic.inference.bundled import bundled_model
from protosonic.inference.golden import golden_patches
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.inference.sparse_engine.build import LIBRARY
from protosonic.inference.sparse_engine.compiled_kernel import CompiledKernel
from protosonic.software.check import Check, fail, ok, warn
from protosonic.stages.endpoint import check_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from protosonic.config import Settings

__all__ = [
    "check_endpoints",
    "check_inputs",
    "check_kernel",
    "check_model",
    "check_pictures",
    "check_profile_of",
]

TOOLS = {"slurm": ("sbatch", "sacct", "scancel"), "cluster-generic": (), "htcondor": ("condor_q",)}
"""Programs that the executors call; the one for HTCondor brings its own, and these are for people."""
SUM_TOLERANCE = 1e-4


def check_kernel(library: Path = LIBRARY) -> Check:
    """Load the compiled kernel of the CPU engine."""
    try:
        kernel = CompiledKernel(library=library)
    except OSError as error:
        return warn(
            "compiled kernel",
            f"it cannot be loaded ({error}); NumPy computes the same, more slowly",
            "With a C compiler: python -m protosonic.inference.sparse_engine.build",
        )
    return ok(
        "compiled kernel", f"loaded; it uses {('no special instructions', 'AVX2', 'AVX-512')[kernel.level]}"
    )


def check_pictures() -> Check:
    """Look whether pictures can be drawn."""
    from protosonic.reporting.event_display import figure_class

    try:
        figure_class()
    except ProtosonicError as error:
        return warn("pictures", error.message, error.hint or "")
    return ok("pictures", "matplotlib is there")


def check_model(settings: Settings | None, workdir: Path) -> Check:
    """Score the golden batch with ONNX Runtime and the configured model."""
    path = _model_of(settings, workdir) or bundled_model()
    try:
        backend = OnnxRuntimeBackend(path, threads=1)
        try:
            scores = backend.infer(golden_patches())
        finally:
            backend.close()
    except ProtosonicError as error:
        return _failed("model", error, "See docs/models.md")
    sums = np.abs(scores[:, :3].sum(axis=1) - 1)
    if not (
        np.isfinite(scores).all()
        and (scores >= 0).all()
        and (scores <= 1).all()
        and sums.max() < SUM_TOLERANCE
    ):
        return fail(
            "model",
            f"{path}: ONNX Runtime gives scores that are no probabilities",
            "Check it with protosonic model check; if the bundled model does the same, this ONNX Runtime is broken",
            ModelError,
        )
    return ok("model", f"ONNX Runtime scores known patches with {path.name}")


def check_inputs(settings: Settings, workdir: Path) -> Check:
    """Find the input files from the working directory and look whether they can be read."""
    before = Path.cwd()
    try:
        os.chdir(workdir if workdir.is_dir() else before)
        files = [file.path for file in find_inputs(settings)]
        local = [path for path in files if "://" not in path]
        unreadable = [path for path in local if not os.access(path, os.R_OK)]
    except ProtosonicError as error:
        return _failed("inputs", error, "Correct inputs")
    finally:
        os.chdir(before)
    if unreadable:
        return warn(
            "inputs",
            f"{len(unreadable)} of {len(files)} files cannot be read, the first is {unreadable[0]}",
            "Their events will be missing, and the campaign is accepted without them only if acceptance allows it",
        )
    return ok(
        "inputs",
        f"{len(files)} files" + (f", {len(files) - len(local)} remote" if len(files) > len(local) else ""),
    )


def check_endpoints(settings: Settings, workdir: Path) -> Iterator[Check]:
    """Ask every endpoint, as jobs do, whether it serves the right model."""
    inference = settings.inference
    if inference.policy == "cpu-only":
        return
    found: list[Check] = []
    for endpoint in inference.endpoints:
        name = f"endpoint {endpoint.url}"
        try:
            report = check_endpoint(
                endpoint,
                settings.model.name,
                settings.model.version,
                _model_of(settings, workdir),
                inference.tolerance,
            )
        except ProtosonicError as error:
            found.append(_failed(name, error, ""))
            continue
        if report.can_serve:
            found.append(ok(name, f"serves {settings.model.name} with the scores of the local model"))
        else:
            found.append(fail(name, report.problem, "protosonic endpoint check says more", ServiceError))
    # One that is down stops nothing while there are others, or the CPU.
    others = inference.policy != "endpoint-only" or any(not check.error for check in found)
    instead = "other endpoints" if any(not check.error for check in found) else "the CPU"
    for check in found:
        if check.error is ServiceError and others:
            yield warn(check.name, f"{check.found}; {instead} would be used", check.mend)
        else:
            yield check


def check_profile_of(name: str, root: Path) -> Iterator[Check]:
    """Check a profile and look for the programs that its executor calls.

    Parameters
    ----------
    name
        Name or folder of the profile.
    root
        The folder of the workflow.
    """
    try:
        folder = find_profile(name, root)
        file = profile_file(folder)
        problems = check_profile(file, root)
        executor = str(profile_content(file).get("executor", "local"))
    except ProtosonicError as error:
        yield _failed("profile", error, "Correct the profile")
        return
    for problem in problems:
        if problem.is_error:
            yield fail("profile", str(problem), f"Correct {file}")
        else:
            yield warn("profile", str(problem), f"Correct {file}, if it is a mistake")
    if not problems:
        yield ok("profile", f"{name}: its keys, rules and values are known")
    outer = os.environ.get("SNAKEMAKE_PROFILE")
    if outer:
        yield warn(
            "other profile",
            f"SNAKEMAKE_PROFILE is {outer}",
            "Where both have a mapping such as default-resources, only that of the workflow profile counts",
        )
    yield from _check_tools(executor, folder)


def _check_tools(executor: str, folder: Path) -> Iterator[Check]:
    tools = ("kubectl",) if (folder / "job.yaml").exists() else TOOLS.get(executor, ())
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if not tools:
        return
    name = "site tools"
    if not missing:
        yield ok(name, ", ".join(tools))
    elif executor == "htcondor":
        yield warn(
            name,
            f"{', '.join(missing)} not found",
            "Is this a submit node? CONDOR_CONFIG names its configuration",
        )
    else:
        yield fail(
            name, f"{', '.join(missing)} not found", "Run this on a submit node, or put them on the path"
        )


def _failed(name: str, error: ProtosonicError, mend: str) -> Check:
    """Make a failed check of an error; what to do about it stands apart."""
    found = str(error).removesuffix(f". {error.hint}")
    return fail(name, found, error.hint or mend, type(error))


def _model_of(settings: Settings | None, workdir: Path) -> Path | None:
    if settings is None or settings.model.path == BUNDLED:
        return None
    return workdir / settings.model.path
