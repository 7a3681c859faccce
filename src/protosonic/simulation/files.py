"""Writing simulated events to native files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protosonic.detectors import load_detector
from protosonic.events.model import EventId
from protosonic.events.native_writer import NativeWriter
from protosonic.simulation.generator import simulate_event

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["simulate_files"]


def simulate_files(
    folder: Path,
    *,
    detector: str,
    files: int,
    events: int,
    hits: int,
    seed: int,
    run: int = 1,
    vary_conditions: bool = False,
    stopping_share: float = 0.0,
) -> Iterator[Path]:
    """Write `files` files of `events` events each.

    Event numbers count from 1 through all files. An event depends on the seed and its numbers only, so how events are
    spread over files does not change them.

    Yields
    ------
    Each file when it is complete.
    """
    description = load_detector(detector)
    for index in range(files):
        path = folder / f"{detector}-run{run:06d}-{index:04d}.h5"
        with NativeWriter(path, description, with_truth=True) as writer:
            for entry in range(events):
                event_id = EventId(run, 0, index * events + entry + 1)
                event = simulate_event(
                    description,
                    event_id,
                    entry,
                    hits,
                    seed,
                    vary_conditions=vary_conditions,
                    stopping_share=stopping_share,
                )
                writer.write(event)
        yield path
