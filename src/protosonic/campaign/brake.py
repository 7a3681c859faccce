"""Stopping a run in which every partition fails for good: its cause concerns the whole campaign."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protosonic.campaign.layout import Layout

__all__ = ["Brake"]


class Brake:
    """Watches the statuses that a run writes, until the first partition is done.

    Parameters
    ----------
    layout
        The campaign. Where one of its partitions is done before, the cause of failures does not concern all, and the run
        goes on; statuses of failed ones that it has before count for nothing.
    most_failed
        As many failed partitions stop the run where none is done.

    Attributes
    ----------
    failed
        Partitions that were seen to fail.
    was_pulled
        Whether the run had to stop.
    """

    def __init__(self, layout: Layout, most_failed: int) -> None:
        self._folder = layout.status("x").parent
        self._most_failed = most_failed
        self._known: set[str] = set()
        self._before: frozenset[str] = frozenset()
        self._released = False
        self.failed, self.was_pulled = 0, False
        self.is_pulled()
        self._before = frozenset(self._known)
        self.failed, self.was_pulled = 0, False

    def is_pulled(self) -> bool:
        """Say whether the run must stop; costs nothing once a partition is done."""
        if self._released:
            return False
        for name in self._new():
            try:
                status = json.loads((self._folder / name).read_bytes())
            except (OSError, ValueError):  # removed meanwhile
                continue
            if status.get("state", "done") == "done":
                self._released = True
                return False
            self._known.add(name)
        self.failed = len(self._known - self._before)
        self.was_pulled = self.failed >= self._most_failed
        return self.was_pulled

    def _new(self) -> list[str]:
        try:
            names = [entry.name for entry in os.scandir(self._folder)]
        except FileNotFoundError:
            return []
        return [name for name in names if not name.startswith(".") and name not in self._known]
