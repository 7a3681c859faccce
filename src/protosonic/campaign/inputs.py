"""From the ``inputs`` section of the configuration to files and blocks of files."""

from __future__ import annotations

import glob
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from protosonic.campaign.records import InputBlock, InputSpec, read_record, write_record
from protosonic.errors import ConfigError, DataError
from protosonic.remote.urls import check_url, identity_of, is_url
from protosonic.remote.wildcards import has_wildcard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from protosonic.config import Input, Settings

__all__ = ["InputFile", "block_of", "blocks_of_inputs", "find_inputs", "read_block", "write_blocks"]

_BLOCK_DIGITS = 2
_GLOB_CHARACTERS = frozenset("*?[")


class InputFile(NamedTuple):
    """A file and how to read it. Paths and URLs are kept as the configuration gives them."""

    path: str
    spec: InputSpec


def find_inputs(settings: Settings) -> list[InputFile]:
    """List the input files of a campaign, sorted by path, each once, however it is spelled (``a``, ``./a``).

    Relative paths start at the working directory, also in lists. Files named in an ``@list.txt`` and URLs need not
    exist: the catalog records those that are missing. Servers are only asked where a URL has wildcards or is a folder.

    Raises
    ------
    ConfigError
        A path, glob, folder or list gives no file, a name is not UTF-8, or two entries give the same file with
        different options; a URL that cannot or must not be used.
    TransientError
        A server that must list files failed.
    """
    found: dict[str, tuple[InputFile, int]] = {}
    here = Path.cwd()
    for index, entry in enumerate(settings.inputs):
        spec = InputSpec.from_input(entry)
        where = f"inputs[{index}].path"
        for path in _expand(entry, settings, where):
            _check_name(path, where)
            key = identity_of(path) if is_url(path) else str(here / path)
            other = found.setdefault(key, (InputFile(path, spec), index))
            if other[0].spec != spec:
                raise ConfigError(
                    f"the file {path} is given twice, with different options",
                    where=f"inputs[{other[1]}] and inputs[{index}]",
                    hint="Make the paths of the two entries exclusive",
                )
    return sorted((file for file, _ in found.values()), key=lambda file: file.path)


def block_of(path: str) -> str:
    """Name the catalog block of a file.

    Blocks follow from the path alone, so that adding a file leaves all blocks but one as they were.
    """
    return hashlib.sha256(path.encode()).hexdigest()[:_BLOCK_DIGITS]


def blocks_of_inputs(files: Iterable[InputFile]) -> dict[str, list[InputFile]]:
    """Group files into catalog blocks, at most 256."""
    blocks: dict[str, list[InputFile]] = {}
    for file in files:
        blocks.setdefault(block_of(file.path), []).append(file)
    return dict(sorted(blocks.items()))


def write_blocks(folder: Path, blocks: Mapping[str, list[InputFile]]) -> None:
    """Write down the files of each block for the jobs, which then need neither lists nor servers.

    Blocks that are as they were are not written again, and those that are no more are removed.
    """
    for name, files in blocks.items():
        path = folder / f"{name}.json"
        block = InputBlock(files=tuple((file.path, file.spec) for file in files))
        if not path.exists() or path.read_text(encoding="utf-8") != block.model_dump_json(indent=1) + "\n":
            write_record(path, block)
    for path in folder.glob("*.json"):
        if path.stem not in blocks:
            path.unlink()


def read_block(path: Path) -> list[InputFile]:
    """Read what :func:`write_blocks` wrote.

    Raises
    ------
    VerificationError
        The file is missing or damaged.
    """
    return [InputFile(*file) for file in read_record(path, InputBlock).files]


def _expand(entry: Input, settings: Settings, where: str) -> Iterator[str]:
    text = entry.path
    if is_url(text):
        check_url(text, where)
        yield from _ask_server(text, settings, where) if _is_pattern(text) else [text]
        return
    if text.startswith("@"):
        yield from _read_list(Path(text[1:]), where)
        return
    path = Path(text)
    if path.is_dir():
        files = sorted(
            str(file) for file in path.iterdir() if file.is_file() and not file.name.startswith(".")
        )
    elif path.exists():
        files = [text]
    elif _GLOB_CHARACTERS & set(text):
        files = sorted(file for file in glob.glob(text, recursive=True) if Path(file).is_file())  # noqa: PTH207
    else:
        files = []
    if not files:
        raise ConfigError(
            "there is no such file, or nothing matches",
            where=where,
            found=text,
            hint=f"Relative paths start at the working directory, {Path.cwd()}",
        )
    yield from files


def _read_list(path: Path, where: str) -> Iterator[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read the list of files: {reason}", where=where, found=path) from error
    entries = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not entries:
        raise ConfigError("the list of files is empty", where=where, found=path)
    for entry in entries:
        if is_url(entry):
            check_url(entry, f"{where}, {path}")
    yield from entries


def _check_name(path: str, where: str) -> None:
    # Records and dataset are UTF-8, so a name that is not cannot be written down.
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            "the name of a file is not UTF-8", where=where, found=ascii(path), hint="Rename the file"
        ) from error


def _is_pattern(url: str) -> bool:
    return has_wildcard(url) or url.endswith("/")


def _ask_server(pattern: str, settings: Settings, where: str) -> list[str]:
    from protosonic.remote.fetch import Fetcher

    try:
        with Fetcher({}, settings.remote.attempts, settings.remote.timeout_s) as fetcher:
            files = fetcher.find(pattern)
    except DataError as error:
        raise ConfigError(
            "the server cannot list these files", where=where, found=f"{pattern}: {error.message}"
        ) from error
    if not files:
        raise ConfigError("nothing on the server matches", where=where, found=pattern)
    return files
