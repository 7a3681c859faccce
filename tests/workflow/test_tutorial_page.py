"""The commands of docs/tutorial.md run in order and print what the page shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.pages import DOCS, Done, Example, examples, missing_line, read_page, run_session, write_files

PAGE = read_page("tutorial.md")
# tests/integration/test_tutorial_installation.py installs.
_, WORK = PAGE.split("\n## Events\n")
EXAMPLES = examples(WORK)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tutorial")
    write_files(WORK, folder)
    return folder


@pytest.fixture(scope="module")
def session(folder: Path) -> list[tuple[Example, Done]]:
    done = run_session([example.command for example in EXAMPLES], folder)
    return list(zip(EXAMPLES, done, strict=True))


def test_commands_print_what_the_page_shows(session: list[tuple[Example, Done]]) -> None:
    assert len(session) >= 15
    for example, done in session:
        assert missing_line(example.output, done.printed) is None, (example.command, done.printed)


def test_only_the_run_with_the_broken_file_fails(session: list[tuple[Example, Done]]) -> None:
    failed = [(example.command, done.status) for example, done in session if done.status]
    assert failed == [("protosonic run tutorial.yaml", 5)]


def test_the_picture_is_the_one_of_the_page(session: list[tuple[Example, Done]], folder: Path) -> None:
    assert (folder / "classes.svg").read_bytes().startswith(b"<?xml")
    assert "](img/tutorial.svg)" in PAGE
    assert (DOCS / "img/tutorial.svg").is_file()
