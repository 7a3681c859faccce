"""Events on which the model of these tests gives no numbers: what only stage infer can find out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from protosonic.detectors import load_detector
from protosonic.events.model import Event, EventId, Hits, Waveforms
from protosonic.events.native_writer import NativeWriter

MOST_CHARGE = 20_000.0
"""Sum of the pixels of a patch; no simulated event comes near."""
POISONED_RUN = 9


def write_poisoned_file(path: Path, events: int = 2, *, first: int = 0) -> None:
    """Write events of one hit in the middle of a block of wires that are full of charge."""
    detector = load_detector("protodune-sp")
    n_wires, n_ticks = 60, 600
    channels = np.arange(2081, 2081 + n_wires, dtype=np.int32)
    rows = np.repeat(np.arange(n_wires), n_ticks)
    ticks = np.tile(np.arange(1000, 1000 + n_ticks), n_wires)
    charge = Waveforms.from_samples(
        channels,
        np.full(n_wires, 6000, np.int32),
        rows,
        ticks,
        np.full(n_wires * n_ticks, 1000.0, np.float32),
    )
    one = np.ones(1, np.float32)
    hit = Hits(
        channel=np.array([2081 + 30], np.int32),
        cryostat=np.array([0], np.int16),
        tpc=np.array([1], np.int16),
        plane=np.array([2], np.int8),
        wire=np.array([31], np.int32),
        peak_time=1300 * one,
        rms=one,
        peak_amplitude=9 * one,
        integral=19 * one,
        in_wire_space=np.ones(1, bool),
    )
    with NativeWriter(path, detector) as writer:
        for entry in range(events):
            event_id = EventId(POISONED_RUN, 0, first + entry)
            writer.write(Event(event_id, entry, detector, 6000, charge, hit))
