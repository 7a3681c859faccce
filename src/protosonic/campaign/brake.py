"""Stopping a run in which every partition fails for good: its cause concerns the whole campaign."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from protosonic.campaign.layout import Layout

__all__ = ["Brake"]


class Brake:
    """Watches the statuses that a run writes, until the first partition is done.

    Parameters
    ----------
    layout
        The campaign; statuses that it has before count for nothing, because a run does not repeat them.
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
        self._before = self._written()
        self._known: set[str] = set()
        self._released = False
        self.failed = 0
        self.was_pulled = False

    def _written(self) -> Mapping[str, int]:
        try:
            with os.scandir(self._folder) as entries:
                return {
                    entry.name: entry.stat().st_mtime_ns for entry in entries if entry.name.endswith(".json")
                }
        except FileNotFoundError:
            return {}

    def is_pulled(self) -> bool:
        """Say whether the run must stop; costs nothing once a partition is done."""
        if self._released:
            return False
        for name, written in self._written().items():
            if name in self._known or self._before.get(name) == written or name.startswith("."):
                continue
            try:
                status = json.loads((self._folder / name).read_bytes())
            except (OSError, ValueError):  # removed meanwhile
                continue
            if status.get("state", "done") == "done":
                self._released = True
                return False
            self._known.add(name)
        self.failed = len(self._known)
        self.was_pulled = self.failed >= self._most_failed
        return self.was_pulled
