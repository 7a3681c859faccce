"""The examples of a page of the documentation: its files and commands, and whether commands print what it shows."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from support.campaign import BIN, clean_environment

DOCS = Path(__file__).parents[2] / "docs"
LEFT_OUT = "…"
_BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
_EXAMPLE = re.compile(r"^\$ (?P<command>(?:.*\\\n)*.*)\n(?P<output>(?:(?!\$ ).*\n)*)", re.MULTILINE)
_FILE = re.compile(r"# (?P<name>\w+\.\w+)\n")


@dataclass(frozen=True)
class Example:
    """A command that a page gives, and the output that it shows."""

    command: str
    output: str


@dataclass(frozen=True)
class Done:
    """What a command printed, on both streams, and its exit status."""

    printed: str
    status: int


def read_page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def blocks(text: str, *languages: str) -> list[str]:
    """Texts of the blocks in these languages, in their order; ``""`` for those that name none."""
    return [block["text"] for block in _BLOCK.finditer(text) if block["language"] in languages]


def examples(text: str) -> list[Example]:
    """Commands of the ``console`` blocks, in their order."""
    return [
        Example(found["command"].replace("\\\n", " "), found["output"])
        for block in blocks(text, "console")
        for found in _EXAMPLE.finditer(block)
    ]


def write_files(text: str, folder: Path) -> None:
    """Write every block whose first line is a comment with the name of a file."""
    for block in _BLOCK.finditer(text):
        if name := _FILE.match(block["text"]):
            (folder / name["name"]).write_text(block["text"], encoding="utf-8")


def run_session(commands: list[str], folder: Path) -> list[Done]:
    """Run commands one after the other in one shell, as a reader does; each sees the status of the one before."""
    mark = "@@ status"
    lines = ["status=0"]
    for command in commands:
        lines += [f"(exit $status)\n{command}\nstatus=$?", f'printf "\\n{mark} %s\\n" "$status"']
    process = subprocess.run(
        ["bash", "-c", "exec 2>&1\n" + "\n".join(lines)],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
        cwd=folder,
        env=clean_environment() | {"PATH": f"{BIN}:{clean_environment()['PATH']}"},
    )
    parts = re.split(rf"\n{mark} (\d+)\n", process.stdout)
    return [Done(printed, int(status)) for printed, status in zip(parts[:-1:2], parts[1::2], strict=True)]


def missing_line(shown: str, printed: str) -> str | None:
    """Give the first line of an output on a page that is not in what was printed, in that order.

    Numbers may differ, because times do, and so may the width of columns; ``…`` stands for anything.
    """
    lines = iter([_words(line) for line in printed.splitlines()])
    for line in shown.splitlines():
        beginning, *others = (_words(part) for part in line.split(LEFT_OUT))
        if any((beginning, *others)) and not any(_fits(beginning, others, found) for found in lines):
            return line
    return None


def _fits(beginning: str, others: list[str], found: str) -> bool:
    if not others:
        return found == beginning
    place = len(beginning)
    if not found.startswith(beginning):
        return False
    for part in others:
        place = found.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return True


def _words(line: str) -> str:
    return " ".join(re.sub(r"\d[\d.,:]*", "#", line).split())
