"""Conversion of any supported format to the native one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from protosonic.errors import DataError
from protosonic.events.formats import open_events
from protosonic.events.native_writer import NativeWriter
from protosonic.events.reader import BadEvent

if TYPE_CHECKING:
    from pathlib import Path

    from protosonic.events.reader import ReaderOptions

__all__ = ["convert_file"]

log = logging.getLogger(__name__)


def convert_file(source: Path, target: Path, options: ReaderOptions) -> int:
    """Write the usable events of a file as a native file; the others are named in the log.

    Returns
    -------
    The number of events that were written.

    Raises
    ------
    DataError
        The file cannot be read, or holds no event that can be used.
    """
    written = 0
    with open_events(source, options) as file:
        events = file.read()
        first = next(events, None)
        # The numbering of channels may only be known from the events (ProtoDUNE-VD).
        while isinstance(first, BadEvent):
            log.warning("%s: left out: %s", first.id, first.error.reason)
            first = next(events, None)
        if first is None:
            raise DataError("the file holds no event that can be used", code="no-events", file=source)
        with NativeWriter(target, first.detector, with_truth=first.truth is not None) as writer:
            writer.write(first)
            written = 1
            for event in events:
                if isinstance(event, BadEvent):
                    log.warning("%s: left out: %s", event.id, event.error.reason)
                else:
                    writer.write(event)
                    written += 1
    return written
