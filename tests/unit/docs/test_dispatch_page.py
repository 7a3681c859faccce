"""docs/dispatch.md says what the failure table says, and names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from protosonic.inference.dispatcher import Policy
from protosonic.inference.failure_policy import ACTIONS, TABLE, Rule

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/dispatch.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """Cells of the rows of all tables, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    heads = {number - 1 for number, line in enumerate(lines) if set(line) <= set("| -")}
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for number, line in enumerate(lines)
        if number not in heads and number - 1 not in heads
    ]


def row_of(rule: Rule) -> list[str]:
    calls = {"any": "any", "admission": "list of models", "inference": "inference"}[rule.calls]
    statuses = ", ".join(f"`{status}`" for status in rule.statuses) or "none"
    return [calls, statuses, rule.example, f"`{rule.failure}`"]


FAILURES, CLASSES = section("Failures").split("A wrong model or a wrong answer carries no status")


@pytest.mark.parametrize("number", range(len(TABLE)))
def test_the_page_has_the_rows_of_the_failure_table_in_their_order(number: int) -> None:
    lines = [line for line in FAILURES.splitlines() if line.startswith("|")][2:]
    assert len(lines) == len(TABLE)
    assert lines[number] == f"| {' | '.join(row_of(TABLE[number]))} |"


def test_the_page_gives_every_class_its_action() -> None:
    documented = {
        name: action.strip("`")
        for names, action, _ in (cells for cells in rows(CLASSES) if len(cells) == 3)
        for name in re.findall(r"`([a-z-]+)`", names)
    }
    assert documented == {str(failure): str(action) for failure, action in ACTIONS.items()}


def test_the_page_explains_every_policy() -> None:
    assert set(re.findall(r"^\| `([a-z-]+)` ", section("Policies"), re.MULTILINE)) == set(get_args(Policy))


def test_every_pain_has_an_answer_and_all_but_one_a_test() -> None:
    table = [
        line.strip("|").split("|")
        for line in section("What users of inference services suffer from").splitlines()
        if re.match(r"\| \d+ \|", line)
    ]
    assert [int(cells[0]) for cells in table] == list(range(1, 22))
    assert all(cells[1].strip() and cells[2].strip() for cells in table)
    assert [int(cells[0]) for cells in table if "`test_" not in cells[3]] == [14]


def test_the_tests_that_the_page_names_exist() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"^def (test_\w+)\(", tests, re.MULTILINE))
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert named
    assert named <= defined
