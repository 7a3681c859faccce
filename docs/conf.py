"""How Sphinx makes the site from these pages: make docs.

The pages are plain Markdown that is also read where the repository lies, so links lead to files; here they become links
between pages.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from protosonic import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "protosonic"
author = "The protosonic authors"
copyright = author  # noqa: A001 (Sphinx calls it so)
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["img"]
root_doc = "index"

# Links to sections, #like-this, as hosting pages make them.
myst_heading_anchors = 4
# Outputs and lists of files are most of the blocks that name no language.
highlight_language = "text"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = False
napoleon_numpy_docstring = True
# Attributes of data classes are described once, and their types stand in the signature.
napoleon_use_ivar = True
napoleon_attr_annotations = False
# Here they say in a sentence what comes; napoleon would take the sentence for a type.
napoleon_custom_sections = ["Returns", "Yields"]

nitpicky = True
# Types of other packages are not looked up, because that takes the network; what this package names must exist.
# Docstrings also name modules that are not public and have no page.
nitpick_ignore_regex = [(r"py:.*", r"(?!protosonic\b).*"), ("py:mod", ".*")]

html_theme = "furo"
html_title = f"protosonic {__version__}"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False

OUTSIDE = {
    "../CHANGELOG.md": "changelog.md",
    "../benchmarks/README.md": "benchmark_scripts.md",
    "../config/README.md": "configuration.md",
}
"""Files beside this folder, and the pages that show them."""


def _lead_inside(_app: Sphinx, _docname: str, source: list[str]) -> None:
    """Let links to files beside this folder lead to the pages that show them."""
    for file, page in OUTSIDE.items():
        source[0] = source[0].replace(f"]({file}", f"]({page}")


_ONE_LINERS: dict[str, list[str]] = {}


def _before_napoleon(_app: Sphinx, what: str, name: str, *described: object) -> None:
    """Keep from napoleon what it would take for something else."""
    lines = described[-1]
    assert isinstance(lines, list)
    if what in {"attribute", "data", "property"}:
        # It would take what stands before a colon for the type.
        _ONE_LINERS[name] = list(lines)
    elif "Attributes" in lines:
        # "model, version" are two names; Sphinx would take what stands before the space for the type.
        start = lines.index("Attributes")
        lines[start:] = [
            line.replace(" ", "") if re.fullmatch(r"\w+(, \w+)+", line) else line for line in lines[start:]
        ]


def _after_napoleon(_app: Sphinx, _what: str, name: str, *described: object) -> None:
    lines = described[-1]
    assert isinstance(lines, list)
    lines[:] = _ONE_LINERS.pop(name, lines)


def setup(app: Sphinx) -> None:
    """Register what is done to every page."""
    app.connect("source-read", _lead_inside)
    # The priority of napoleon is 500.
    app.connect("autodoc-process-docstring", _before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", _after_napoleon, priority=600)
