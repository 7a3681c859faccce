"""Every protosonic command in the documentation exists, with the options that it is given there.

Pages that show output (tutorial, troubleshooting, planning, display, report) are also run, each by a test of its own.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from protosonic.cli import app
from support.pages import blocks

ROOT = Path(__file__).parents[3]
PAGES = sorted([ROOT / "README.md", ROOT / "config/README.md", *(ROOT / "docs").glob("*.md")])
COMMAND = re.compile(r"^(?P<prompt>\$ )?(?:\S*/)?protosonic (?P<words>(?:.*\\\n)*.*)", re.MULTILINE)
INLINE = re.compile(r"`protosonic ([a-z][^`]*)`")


def commands_of(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    found = INLINE.findall(text)
    for block in blocks(text, "", "console", "bash", "sh"):
        # Where there are prompts, other lines are output.
        prompt = "$ " if re.search(r"^\$ ", block, re.MULTILINE) else None
        found += [command["words"] for command in COMMAND.finditer(block) if command["prompt"] == prompt]
    return [command.replace("\\\n", " ") for command in found]


COMMANDS = sorted({(page.name, command) for page in PAGES for command in commands_of(page)})


def test_there_are_many():
    assert len(COMMANDS) > 100
    assert {"README.md", "operations.md", "serving.md", "slurm.md", "tutorial.md"} <= {
        page for page, _ in COMMANDS
    }


@pytest.mark.parametrize(("page", "text"), COMMANDS)
def test_command_and_options_exist(page: str, text: str) -> None:
    """Of an alternative, as in "plan | report", the first one; brackets around what may be left out do not matter."""
    text = re.split(r"\s(?:\||>|&&|;|2>|#)", text.replace("[", " ").replace("]", " "))[0]
    words = shlex.split(text)
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert not hasattr(command, "commands") or not words or words[0].startswith("-"), (page, text)
    own = words[: words.index("--")] if "--" in words else words
    known = {
        name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts]
    } | {"--help"}
    given = {word.partition("=")[0] for word in own if re.match(r"--?[a-z]", word)}
    assert given <= known, (page, text)
