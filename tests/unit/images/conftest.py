from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from protosonic.detectors import load_detector
from protosonic.events.model import Event, EventId, Hits, Waveforms

Regions = Mapping[int, Sequence[tuple[int, Sequence[float]]]]
EventFactory = Callable[..., Event]


def waveforms_of(regions: Regions, n_samples: Mapping[int, int] | int) -> Waveforms:
    """Waveforms from channel → regions (first tick, values)."""
    channels = sorted(regions)
    lengths = [n_samples if isinstance(n_samples, int) else n_samples[channel] for channel in channels]
    rows, ticks, values = [], [], []
    for row, channel in enumerate(channels):
        for start, charge in sorted(regions[channel]):
            rows += [row] * len(charge)
            ticks += range(start, start + len(charge))
            values += charge
    return Waveforms.from_samples(
        np.array(channels, np.int32),
        np.array(lengths, np.int32),
        np.array(rows, np.int64),
        np.array(ticks, np.int64),
        np.array(values, np.float32),
    )


def hits_of(rows: Sequence[tuple[int, int, int, float]], *, in_wire_space: bool = True) -> Hits:
    """Hits from (tpc, plane, wire, peak time)."""
    n = len(rows)
    tpc, plane, wire, time = zip(*rows, strict=True) if rows else ((), (), (), ())
    ones = np.ones(n, np.float32)
    return Hits(
        channel=np.zeros(n, np.int32),
        cryostat=np.zeros(n, np.int16),
        tpc=np.array(tpc, np.int16),
        plane=np.array(plane, np.int8),
        wire=np.array(wire, np.int32),
        peak_time=np.array(time, np.float32),
        rms=ones,
        peak_amplitude=ones,
        integral=ones,
        in_wire_space=np.full(n, in_wire_space),
    )


@pytest.fixture
def make_event() -> EventFactory:
    """Make a ProtoDUNE-SP event from regions and hits."""

    def make(
        regions: Regions,
        hits: Sequence[tuple[int, int, int, float]] = (),
        *,
        n_ticks: int = 6000,
        n_samples: Mapping[int, int] | int | None = None,
        bad_channels: Sequence[int] = (),
        in_wire_space: bool = True,
    ) -> Event:
        return Event(
            id=EventId(1, 0, 1),
            entry=0,
            detector=load_detector("protodune-sp"),
            n_ticks=n_ticks,
            waveforms=waveforms_of(regions, n_ticks if n_samples is None else n_samples),
            hits=hits_of(hits, in_wire_space=in_wire_space),
            bad_channels=np.array(bad_channels, np.int32),
        )

    return make
