"""The documentation says what the code does: columns, exit codes, reasons, profiles, commands, links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from protosonic.config.load import known_keys
from protosonic.dataset.schema import ACCOUNTING_SCHEMA, HITS_SCHEMA
from protosonic.detectors import detector_names
from protosonic.errors import exit_codes
from protosonic.events.formats import FORMATS
from protosonic.images.profiles import profile_names

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    [ROOT / "README.md", *ROOT.glob("docs/*.md"), ROOT / "config/README.md", ROOT / "benchmarks/README.md"]
)


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def rows_of(text: str) -> dict[str, list[str]]:
    """Cells of every table row, by the text of its first cell."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ")
    ]
    return {cells[0].strip("`"): cells for cells in rows}


@pytest.mark.parametrize("schema", [HITS_SCHEMA, ACCOUNTING_SCHEMA], ids=["hits", "accounting"])
def test_every_column_is_documented_with_its_type_and_unit(schema):
    heading = "## `hits`" if schema is HITS_SCHEMA else "## `accounting`"
    section = page("outputs.md").partition(heading)[2].partition("\n## ")[0]
    rows = rows_of(section)
    assert set(schema.names) <= set(rows)
    for field in schema:
        _, dtype, unit, meaning = rows[field.name]
        assert dtype == {"float": "float32"}.get(str(field.type), str(field.type))
        assert unit == field.metadata[b"unit"].decode()
        assert meaning


def test_every_exit_code_is_documented():
    rows = rows_of(page("errors.md"))
    for code in exit_codes():
        assert str(code) in rows


def test_every_reason_for_quarantine_is_documented():
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    codes = set(re.findall(r'code="([a-z-]+)"', source)) | {"input-changed"}
    documented = rows_of(page("errors.md").partition("## Reasons for quarantine")[2])
    assert codes <= set(documented)


def test_every_profile_and_detector_is_documented():
    physics = page("physics.md")
    for name in (*profile_names(), *detector_names()):
        assert f"`{name}`" in physics


def test_every_format_is_documented():
    assert set(FORMATS) <= set(rows_of(page("formats.md")))


def test_keys_that_the_documentation_names_exist():
    sections = {key.partition(".")[0] for key in known_keys()}
    pattern = re.compile(rf"`((?:{'|'.join(sections)})(?:\[\])?\.[a-z_]+)`")
    for path in PAGES:
        for key in pattern.findall(path.read_text()):
            if key not in {
                "campaign.json",
                "pilot.json",
                "report.html",
                "model.untrained",
                "model.py",
                "model.onnx",
                "training.json",
                "training.png",
            }:
                assert key.replace("[]", "") in known_keys(), (path.name, key)


def test_links_between_pages_lead_somewhere():
    for path in PAGES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
            if not target.startswith(("http", "mailto")):
                assert (path.parent / target).exists(), (path.name, target)
