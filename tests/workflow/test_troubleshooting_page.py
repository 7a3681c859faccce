"""The commands of docs/troubleshooting.md run in order and print what the page shows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from protosonic import errors
from support.pages import Done, Example, examples, missing_line, read_page, run_session, write_files

if TYPE_CHECKING:
    from pathlib import Path

PAGE = read_page("troubleshooting.md")
EXAMPLES = examples(PAGE)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Example, Done]]:
    folder: Path = tmp_path_factory.mktemp("troubleshooting")
    write_files(PAGE, folder)
    done = run_session([example.command for example in EXAMPLES], folder)
    return list(zip(EXAMPLES, done, strict=True))


def test_commands_print_what_the_page_shows(session: list[tuple[Example, Done]]) -> None:
    assert len(session) >= 10
    for example, done in session:
        assert missing_line(example.output, done.printed) is None, (example.command, done.printed)


def test_exit_codes_are_those_of_the_page(session: list[tuple[Example, Done]]) -> None:
    shown = [int(example.output) for example, _ in session if example.command == "echo $?"]
    printed = [int(done.printed) for example, done in session if example.command == "echo $?"]
    assert shown == printed == [2, 5, 11]


def test_every_exit_code_of_a_run_leads_somewhere() -> None:
    table = PAGE.partition("| --- | --- |")[2].partition("\n\n")[0]
    codes = {
        int(code) for row in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE) for code in row.split(",")
    }
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.ProtosonicError)
    ]
    # 1 is a mistake in protosonic itself, 3 and 4 belong to commands about single files and models.
    assert codes == {kind.exit_code for kind in kinds} - {1, 3, 4} | {errors.INTERRUPTED}
