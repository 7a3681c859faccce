"""The documentation becomes a site without a warning, with all pages and without the network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.pages import DOCS


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    process = subprocess.run(
        [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", DOCS, folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout
    return folder


def test_every_page_is_in_the_navigation(site: Path) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")
    for page in DOCS.glob("*.md"):
        assert page.stem == "index" or f'href="{page.stem}.html"' in index, page.name


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(r"<(?:script|img|iframe)[^>]* src=\"([^\"]*)\"", page.read_text(encoding="utf-8"))
        loaded += re.findall(r"<link[^>]* href=\"([^\"]*)\"", page.read_text(encoding="utf-8"))
        assert not [address for address in loaded if address.startswith(("http:", "https:", "//"))], page.name


def test_links_between_pages_lead_to_sections_that_exist(site: Path) -> None:
    for page in site.glob("*.html"):
        for target, anchor in re.findall(r'href="([\w.-]*\.html)#([^"]+)"', page.read_text(encoding="utf-8")):
            assert f'id="{anchor}"' in (site / target).read_text(encoding="utf-8"), (
                page.name,
                target,
                anchor,
            )
