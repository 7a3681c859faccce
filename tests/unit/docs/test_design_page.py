"""The arrows between modules are those of docs/design.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import protosonic

PAGE = (Path(__file__).parents[3] / "docs/design.md").read_text(encoding="utf-8")
ROOT = Path(protosonic.__file__).parent


def module_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imported_when_loaded(path: Path) -> set[str]:
    """Modules of the package that a file imports at its top level."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("protosonic.")}
    return found


def test_modules_import_only_from_rows_below() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", PAGE, re.MULTILINE)
    row_of = {name: int(number) for number, cell in rows for name in re.findall(r"`(\w+)`", cell)}
    files = [
        path
        for path in ROOT.rglob("*.py")
        if path.name not in {"__init__.py", "__main__.py"} or path.parent != ROOT
    ]
    assert {module_of(path) for path in files} == set(row_of)
    wrong = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in files
        for module in imported_when_loaded(path) - {module_of(path)}
        if row_of[module] <= row_of[module_of(path)]
    }
    assert wrong == set()
