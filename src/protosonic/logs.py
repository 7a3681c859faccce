"""Log messages of the commands."""

from __future__ import annotations

import logging
import sys

__all__ = ["start_logging"]


def start_logging(*, verbose: bool) -> None:
    """Log to standard error: short lines on a terminal, dated ones in a batch log."""
    on_terminal = sys.stderr.isatty()
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING if on_terminal else logging.INFO,
        format="%(levelname)s %(message)s" if on_terminal else "%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
        force=True,
    )
