"""What ``protosonic run`` shows while Snakemake works."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Literal

from protosonic.campaign.last_run import DRY_RUN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from protosonic.campaign.layout import Layout

__all__ = ["View", "show_cursor", "view_arguments"]

View = Literal["auto", "live", "plain", "snakemake"]

SAID_BY_SNAKEMAKE = DRY_RUN | {
    "--dag",
    "--debug",
    "--debug-dag",
    "--detailed-summary",
    "--filegraph",
    "--lint",
    "--list-rules",
    "--list-target-rules",
    "--logger",
    "--printshellcmds",
    "--quiet",
    "--report",
    "--rulegraph",
    "--summary",
    "--unlock",
    "--verbose",
    "-D",
    "-S",
    "-l",
    "-p",
    "-q",
}
"""Arguments of Snakemake that ask for something that Snakemake itself says."""


def view_arguments(layout: Layout, view: View, arguments: Sequence[str]) -> list[str]:
    """Give the arguments by which Snakemake shows a campaign.

    Parameters
    ----------
    layout
        The campaign.
    view
        ``live`` redraws in place, ``plain`` prints a line now and then, ``snakemake`` leaves Snakemake's messages as they
        are; ``auto`` is live on a terminal and plain elsewhere.
    arguments
        What the user gave Snakemake; where that asks for messages of Snakemake's, ``auto`` leaves these.
    """
    if view == "auto":
        if SAID_BY_SNAKEMAKE.intersection(argument.partition("=")[0] for argument in arguments):
            view = "snakemake"
        else:
            can_redraw = sys.stderr.isatty() and os.environ.get("TERM", "") not in {"", "dumb"}
            view = "live" if can_redraw else "plain"
    if view == "snakemake":
        return []
    return [
        "--logger",
        "protosonic",
        "--logger-protosonic-campaign",
        layout.name,
        "--logger-protosonic-style",
        view,
    ]


def show_cursor() -> None:
    """Bring the cursor of the terminal back, which a live view that was killed had hidden."""
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h")
        sys.stderr.flush()
