"""Checking workflow profiles against Snakemake's own parser and against the rules of the workflow.

Snakemake ignores without a word what it does not know below the top level of a profile, and some of it at the top: a
profile that does not exist, ``default_resources`` for ``default-resources``, resources of a rule that there is not.
"""

from __future__ import annotations

import difflib
import hashlib
import logging
import re
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from protosonic.errors import ConfigError
from protosonic.user_cache import cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "ProfileProblem",
    "check_profile",
    "find_profile",
    "profile_content",
    "profile_file",
    "require_sound_profile",
    "rules_of",
    "shipped_profiles",
]

log = logging.getLogger(__name__)

PLUGIN_EXTRAS = {"htcondor": "htcondor", "cluster-generic": "kubernetes", "slurm": "slurm"}
"""Executors that an extra of protosonic installs."""
_MAPPINGS = {
    "batch", "config", "consider-ancient", "default-resources", "group-components", "groups", "resources",
    "set-resource-scopes", "set-resources", "set-scatter", "set-threads",
}  # fmt: skip
"""Keys under which Snakemake reads a mapping; it ignores a mapping under any other key."""
_OF_RULES = {"batch", "consider-ancient", "groups", "set-resources", "set-threads"}
"""Of these, those whose keys are names of rules."""
_RESOURCES = {
    # Snakemake's own
    "disk", "disk_mb", "disk_mib", "gpu", "gpu_manufacturer", "gpu_model", "mem", "mem_mb", "mem_mib", "runtime", "tmpdir",
    # SLURM
    "clusters", "constraint", "cpus_per_gpu", "cpus_per_task", "gres", "mem_mb_per_cpu", "nodes", "qos", "reservation",
    "slurm_account", "slurm_extra", "slurm_partition", "tasks", "tasks_per_gpu", "tasks_per_node",
    # HTCondor
    "container_image", "environment", "getenv", "htcondor_request_disk_mb", "htcondor_request_mem_mb", "job_wrapper",
    "max_retries", "rank", "request_disk", "request_gpus", "request_memory", "requirements", "universe",
    # Kubernetes
    "machine_type", "scale",
}  # fmt: skip


class ProfileProblem(NamedTuple):
    """One thing that is wrong in a profile.

    Attributes
    ----------
    where
        The key, with dots between its parts.
    message
        What is wrong and what to write instead.
    is_error
        Whether it is wrong for certain; if not, it only looks like a mistake.
    """

    where: str
    message: str
    is_error: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


def shipped_profiles(root: Path) -> list[str]:
    """List the profiles that come with the workflow in `root`."""
    return sorted(path.name for path in (root / "workflow" / "profiles").iterdir() if path.is_dir())


def find_profile(name: str, root: Path) -> Path:
    """Find the folder of a profile.

    Parameters
    ----------
    name
        A profile of the workflow in `root`, or a folder.

    Raises
    ------
    ConfigError
        There is no such profile (Snakemake itself would run without any, silently).
    """
    shipped = root / "workflow" / "profiles" / name
    folder = shipped if shipped.is_dir() else Path(name)
    if not folder.is_dir():
        known = shipped_profiles(root)
        near = difflib.get_close_matches(name, known, n=1)
        raise ConfigError(
            f"there is no profile '{name}'",
            expected=f"a folder, or one of {', '.join(known)}",
            hint=f"Did you mean '{near[0]}'?" if near else None,
        )
    return folder.resolve()


def profile_file(folder: Path) -> Path:
    """Find the file of a profile that this version of Snakemake reads.

    Raises
    ------
    ConfigError
        There is none.
    """
    major = int(metadata.version("snakemake").partition(".")[0])
    found = {}
    for path in folder.iterdir():
        match = re.fullmatch(r"(?:profile|config)(?:\.v(\d+)\+)?\.yaml", path.name)
        if match and int(match[1] or 0) <= major:
            found[path] = int(match[1] or 0)
    if not found:
        present = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise ConfigError(
            "this folder is no profile",
            file=folder,
            expected="profile.v9+.yaml or profile.yaml",
            found=present,
        )
    return max(found, key=lambda path: found[path])


def rules_of(root: Path) -> set[str]:
    """Name the rules of the workflow in `root`."""
    return set(re.findall(r"^(?:rule|checkpoint) (\w+):", _source(root), flags=re.MULTILINE))


def profile_content(file: Path) -> dict[str, Any]:
    """Read a profile as Snakemake does, with its templates.

    Raises
    ------
    ConfigError
        It cannot be read, or is no mapping.
    """
    import yte

    try:
        with file.open(encoding="utf-8") as stream:
            content = yte.process_yaml(stream, require_use_yte=True)
    except OSError as error:
        raise ConfigError(f"cannot read the profile: {error.strerror}", file=file) from error
    except Exception as error:  # yte raises errors of the YAML parser and of the expressions in it
        raise ConfigError(f"not valid YAML: {error}", file=file) from error
    if not isinstance(content, dict):
        raise ConfigError(
            "the profile is no mapping", file=file, expected="lines 'key: value'", found=repr(content)[:80]
        )
    return {str(key): value for key, value in content.items()}


def check_profile(file: Path, root: Path) -> list[ProfileProblem]:
    """Check the keys, values, rules and resources of a profile.

    Parameters
    ----------
    file
        The file of the profile.
    root
        The folder of the workflow whose rules it names.

    Raises
    ------
    ConfigError
        It cannot be read at all.
    """
    from snakemake.cli import get_argument_parser
    from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

    content = profile_content(file)
    plain = get_argument_parser()
    known = {key.lstrip("-") for action in plain._actions for key in plain.get_possible_config_keys(action)}
    problems = []
    executor = str(content.get("executor", "local"))
    executors = set(ExecutorPluginRegistry().plugins)
    if executor not in executors:
        problems.append(_missing_executor(executor, executors))
    for key, value in content.items():
        name = key.removeprefix("--")
        # Nothing can be said about the options of a plugin that is not there.
        if executor not in executors and name.startswith(f"{executor}-"):
            continue
        if name not in known:
            problems.append(ProfileProblem(key, f"snakemake has no option --{name}{_meant(name, known)}"))
        elif isinstance(value, dict) and name not in _MAPPINGS:
            problems.append(ProfileProblem(key, "snakemake reads no mapping here and would ignore it"))
        elif isinstance(value, dict):
            problems += _check_mapping(name, value, content, root)
    if not any(problem.is_error for problem in problems):
        problems += _try_values(file)
    return problems


def require_sound_profile(name: str, root: Path) -> Path:
    """Find and check a profile; what only looks like a mistake is logged.

    The check loads Snakemake, which takes a second: a profile without any problem is remembered in the user's cache.

    Returns
    -------
    The folder of the profile.

    Raises
    ------
    ConfigError
        There is no such profile, or it is wrong; with all problems at once.
    """
    folder = find_profile(name, root)
    file = profile_file(folder)
    mark = _mark(file, root)
    if mark is not None and mark.exists():
        return folder
    problems = check_profile(file, root)
    errors = [problem for problem in problems if problem.is_error]
    if errors:
        count = f"{len(errors)} problem{'s' if len(errors) > 1 else ''} in the profile"
        raise ConfigError("\n  ".join([count, *map(str, errors)]), file=file)
    for problem in problems:
        log.warning("%s: %s", file, problem)
    if mark is not None and not problems:
        try:
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
        except OSError:
            log.debug("the check of the profile cannot be remembered in %s", mark.parent)
    return folder


def _mark(file: Path, root: Path) -> Path | None:
    """Name the file that says that such a profile was found sound; none where the environment has a say in it."""
    content = file.read_bytes()
    if b"$" in content or b"__use_yte__" in content:
        return None
    plugins = sorted(
        f"{distribution.name}=={distribution.version}"
        for distribution in metadata.distributions()
        if distribution.name.startswith(("snakemake", "protosonic"))
    )
    # The folder counts too, because values that name files in it are paths.
    parts = [str(file.parent), *plugins, _source(root)]
    digest = hashlib.sha256(content + "\n".join(parts).encode()).hexdigest()[:32]
    return cache_folder() / "profiles" / digest


def _source(root: Path) -> str:
    files = [root / "workflow" / "Snakefile", *sorted((root / "rules").glob("*.smk"))]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def _meant(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.replace("_", "-"), known, n=1) or difflib.get_close_matches(
        name, known, n=1
    )
    return f"; did you mean {near[0]}?" if near else ""


def _missing_executor(executor: str, executors: set[str]) -> ProfileProblem:
    extra = PLUGIN_EXTRAS.get(executor)
    package = f"'protosonic[{extra}]'" if extra else f"snakemake-executor-plugin-{executor}"
    meant = "" if extra else _meant(executor, {*executors, *PLUGIN_EXTRAS})
    installed = ", ".join(sorted(executors))
    # Nobody should install a package whose name is a slip of the pen.
    how = "" if meant else f": pip install {package}"
    message = (
        f"the plugin of the executor '{executor}' is not installed{meant}; installed are {installed}{how}"
    )
    return ProfileProblem("executor", message)


def _check_mapping(
    key: str, mapping: dict[Any, Any], content: dict[str, Any], root: Path
) -> Iterator[ProfileProblem]:
    rules = rules_of(root)
    resources = _RESOURCES | set(re.findall(r"^ {8}(\w+)=", _source(root), flags=re.MULTILINE))
    groups = content.get("groups")
    for name, value in mapping.items():
        where = f"{key}.{name}"
        if key in _OF_RULES and name not in rules:
            yield ProfileProblem(where, f"the workflow has no rule '{name}'{_meant(str(name), rules)}")
        elif key == "set-resources" and not isinstance(value, dict):
            yield ProfileProblem(where, "expected a mapping of resources, such as {mem_mb: 4000}")
        elif key == "set-resources":
            yield from _check_resources(where, value, resources)
        elif key == "group-components" and name not in set((groups or {}).values()):
            yield ProfileProblem(where, f"no rule is put into the group '{name}' by groups")
        elif isinstance(value, dict):
            yield ProfileProblem(where, "expected a value, found a mapping")
    if key in {"default-resources", "resources", "set-resource-scopes"}:
        yield from _check_resources(key, mapping, resources)


def _check_resources(where: str, mapping: dict[Any, Any], known: set[str]) -> Iterator[ProfileProblem]:
    """Point at names that are probably misspelt; a site may have resources of any name."""
    for name in mapping:
        if not str(name).isidentifier():
            yield ProfileProblem(
                f"{where}.{name}", f"this cannot be the name of a resource{_meant_in(name, known)}"
            )
        elif name not in known and not str(name).startswith(("htcondor_submit_", "classad_")):
            meant = _meant_in(name, known)
            if meant:
                yield ProfileProblem(
                    f"{where}.{name}", f"nothing here asks for this resource{meant}", is_error=False
                )


def _meant_in(name: object, known: set[str]) -> str:
    near = difflib.get_close_matches(str(name).replace("-", "_"), known, n=1, cutoff=0.8)
    return f"; did you mean {near[0]}?" if near else ""


class _WrongValueError(Exception):
    """What Snakemake's parser says about a value."""


def _try_values(file: Path) -> list[ProfileProblem]:
    """Let Snakemake's own parser read the profile."""
    from snakemake.cli import get_argument_parser
    from snakemake.exceptions import WorkflowError

    def refuse(message: str) -> NoReturn:
        raise _WrongValueError(message)

    parser = get_argument_parser(profiles=[str(file)])
    parser.error = refuse
    try:
        parser.parse_args([])
    except _WrongValueError as error:
        match = re.match(r"argument (?:-\w/)?--([\w-]+)[^:]*: (.*)", str(error), flags=re.DOTALL)
        where, message = (match[1], match[2]) if match else ("the values", str(error))
        return [ProfileProblem(where, message)]
    except (WorkflowError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        return [ProfileProblem("the values", f"snakemake cannot read them: {error}")]
    return []
