"""Reading a configuration: every error at once, each with its line, key, what was found and what is allowed."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from protosonic.config.model import Settings
from protosonic.config.site import Site
from protosonic.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pydantic_core import ErrorDetails

__all__ = ["check_section", "check_settings", "known_keys", "load_section", "load_settings", "load_site"]

Location = tuple[int | str, ...]
S = TypeVar("S", bound=BaseModel)


def load_settings(path: Path) -> Settings:
    """Read and check a YAML configuration file.

    Raises
    ------
    ConfigError
        The file is missing, is not YAML, or has any number of wrong keys and values, which are all named.
    """
    content, lines = _read_yaml(path, "the configuration")
    return check_settings(content, file=path, lines=lines)


def load_site(path: Path) -> Site:
    """Read and check the YAML file of a site; an empty one asks for nothing.

    Raises
    ------
    ConfigError
        As those of :func:`load_settings`.
    """
    return load_section(path, Site, "the site file", example="account: …")


def load_section(path: Path, kind: type[S], what: str, example: str) -> S:
    """Read a YAML file that is one section; an empty one leaves all at its defaults.

    Parameters
    ----------
    path
        The file.
    kind
        The model of the section.
    what, example
        What the file is called and a key of it, for messages.

    Raises
    ------
    ConfigError
        As those of :func:`load_settings`.
    """
    content, lines = _read_yaml(path, what)
    if content is None:
        return kind()
    if not isinstance(content, dict):
        raise ConfigError(f"{what} is not a mapping", file=path, expected=example, found=_short(content))
    return check_section(content, kind, what, file=path, lines=lines)


def check_section(
    content: object,
    kind: type[S],
    what: str,
    *,
    file: Path | str | None = None,
    lines: Mapping[Location, int] | None = None,
) -> S:
    """Check a mapping that was read elsewhere.

    Raises
    ------
    ConfigError
        With one line per problem.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problems = [_describe(problem, lines or {}, kind) for problem in error.errors()]
    raise _problems(problems, file, what)


def _read_yaml(path: Path, what: str) -> tuple[object, dict[Location, int]]:
    """Read a YAML file, with the line of each key."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read {what}: {reason}", file=path) from error
    lines: dict[Location, int] = {}
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        repeated = list(_walk(root, (), lines)) if root is not None else []
        content = yaml.safe_load(text)
    # Values such as the date 2024-13-45 fail with a ValueError, an anchor inside itself with a RecursionError.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"not valid YAML: {error}", file=path) from error
    if repeated:
        raise _problems(
            [f"line {line}: {format_key(where)}: this key is given twice" for where, line in repeated],
            path,
            what,
        )
    return content, lines


def check_settings(
    content: object, *, file: Path | str | None = None, lines: Mapping[Location, int] | None = None
) -> Settings:
    """Check a configuration that was read elsewhere, such as Snakemake's ``config`` dictionary.

    Parameters
    ----------
    content
        The mapping of sections.
    file, lines
        Named in the error message: the file, and the line of each key.

    Raises
    ------
    ConfigError
        With one line per problem.
    """
    if not isinstance(content, dict):
        raise ConfigError(
            "the configuration is not a mapping of sections",
            file=file,
            expected="campaign:, inputs:, …",
            found=_short(content),
        )
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        problems = [_describe(problem, lines or {}) for problem in _without_echoes(error.errors())]
    raise _problems(problems, file)


def known_keys() -> list[str]:
    """List every key of the configuration with dots between its parts (``inference.threads``)."""
    return list(_keys(Settings))


def format_key(location: Location) -> str:
    """Write a location as a user would: ``inputs[0].path``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "the file"


def submodel(annotation: Any) -> type[BaseModel] | None:
    """Find the model inside an annotation: ``Merge`` in ``Merge``, ``Input`` in ``tuple[Input, ...]``."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = submodel(field.annotation)
        if inner is None:
            yield prefix + name
        else:
            yield from _keys(inner, f"{prefix}{name}.")


def _walk(node: yaml.Node, location: Location, lines: dict[Location, int]) -> Iterator[tuple[Location, int]]:
    """Record the line of every key; yield the keys that are repeated."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*location, str(key.value))
            line = key.start_mark.line + 1
            if inner in lines:
                yield inner, line
                continue
            lines[inner] = line
            yield from _walk(value, inner, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[*location, index] = value.start_mark.line + 1
            yield from _walk(value, (*location, index), lines)


def _problems(problems: list[str], file: Path | str | None, what: str = "the configuration") -> ConfigError:
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in {what}"
    return ConfigError("\n  ".join([count, *problems]), file=file)


def _without_echoes(problems: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out that a list is empty where it only became so because its items are wrong."""
    return [problem for problem in problems if problem["type"] != "too_short" or not problem["input"]]


def _allowed_keys(location: Location, root: type[BaseModel]) -> list[str]:
    model: type[BaseModel] | None = root
    for part in location:
        if isinstance(part, str) and model is not None:
            field = model.model_fields.get(part)
            model = submodel(field.annotation) if field else None
    return list(model.model_fields) if model else []


def _nearest(key: str, allowed: list[str], root: type[BaseModel]) -> list[str]:
    """Find the keys that were probably meant: of that name in other sections, or alike in this one, or elsewhere."""
    by_name: dict[str, list[str]] = {}
    for known in _keys(root):
        by_name.setdefault(known.rpartition(".")[2], []).append(known)
    if key in by_name:
        return by_name[key]
    close = difflib.get_close_matches(key, allowed, n=1, cutoff=0.6)
    elsewhere = difflib.get_close_matches(key, by_name, n=1, cutoff=0.75)
    return close or [known for name in elsewhere for known in by_name[name]]


def _describe(problem: ErrorDetails, lines: Mapping[Location, int], root: type[BaseModel] = Settings) -> str:
    kind, found = problem["type"], problem["input"]
    location = tuple(problem["loc"])
    if kind == "invalid_key":
        location = (*location[:-1], str(location[-1]))
    line = next((lines[location[:n]] for n in range(len(location), 0, -1) if location[:n] in lines), None)
    place = f"line {line}: {format_key(location)}" if line else format_key(location)
    if kind == "extra_forbidden":
        allowed = _allowed_keys(location[:-1], root)
        meant = _nearest(str(location[-1]), allowed, root)
        advice = f"did you mean {' or '.join(map(repr, meant))}? " if meant else ""
        return f"{place}: unknown key; {advice}Known here: {', '.join(allowed)}"
    if kind == "missing":
        return f"{place}: this key is missing and has no default"
    message = problem["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return f"{place}: {message}"
    return f"{place}: {message[:1].lower()}{message[1:]}; found {_short(found)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
