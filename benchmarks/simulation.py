"""Compare simulated ProtoDUNE-HD events with a measured one, and time the simulation.

    python benchmarks/simulation.py [FRAMES] [--events N] [--json FILE]

FRAMES is a Wire-Cell archive of a ProtoDUNE-HD anode (``protodunehd-sp-frames-anode1.tar.bz2`` of wire-cell-toolkit's
test data); without it the simulated figures stand alone. Full windows with 47,200 hits are simulated, the density of hits
of that archive.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common import machine, report
from protosonic.detectors import load_detector
from protosonic.events.formats import open_events
from protosonic.events.model import Event, EventId
from protosonic.events.reader import ReaderOptions
from protosonic.simulation.generator import simulate_event

if TYPE_CHECKING:
    from collections.abc import Sequence

HITS = 47_200
QUANTILES = (5, 25, 50, 75, 95)
THRESHOLDS = (0.6, 1.0, 2.0)


def quantiles(values: Any) -> str:
    return " / ".join(f"{value:.3g}" for value in np.percentile(values, QUANTILES))


def figures(events: Sequence[Event], n_units: int) -> dict[str, dict[str, str]]:
    """Give the figures of each plane, per readout unit and window."""
    table: dict[str, dict[str, str]] = {}
    places = events[0].detector.channel_places
    for plane, name in enumerate("UVW"):
        widths, amplitudes, sigmas, charges = [], [], [], []
        n_channels = 800 if plane < 2 else 960
        for event in events:
            waveforms, hits = event.waveforms, event.hits
            assert waveforms is not None
            channel = waveforms.channel[np.repeat(np.arange(len(waveforms)), np.diff(waveforms.roi_offset))]
            widths.append(np.diff(waveforms.value_offset)[places.plane[channel] == plane])
            here = hits.plane == plane
            amplitudes.append(hits.peak_amplitude[here])
            sigmas.append(hits.rms[here])
            charges.append(hits.integral[here])
        width, amplitude = np.concatenate(widths), np.concatenate(amplitudes)
        windows = n_units * len(events)
        table[name] = {
            "occupancy, %": f"{100 * width.sum() / windows / n_channels / events[0].n_ticks:.2f}",
            "regions": f"{len(width) / windows:.0f}",
            "region width, ticks": quantiles(width),
            "hits": f"{len(amplitude) / windows:.0f}",
            "hit amplitude": quantiles(amplitude),
            "hit sigma, ticks": quantiles(np.concatenate(sigmas)),
            "hit charge": quantiles(np.concatenate(charges)),
            "hits above 1 and 2": " / ".join(
                f"{(amplitude > t).sum() / windows:.0f}" for t in THRESHOLDS[1:]
            ),
        }
    return table


def measured(path: Path) -> list[Event]:
    options = ReaderOptions(detector="protodune-hd", charge_scale=1e-3)
    with open_events(path, options) as file:
        return [event for event in file.read() if isinstance(event, Event)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("frames", nargs="?", type=Path)
    parser.add_argument("--events", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    detector = load_detector("protodune-hd")
    start = time.process_time()
    simulated = [
        simulate_event(detector, EventId(1, 0, number), 0, HITS, 1) for number in range(1, options.events + 1)
    ]
    seconds = (time.process_time() - start) / options.events
    columns = {"simulated": figures(simulated, len(detector.units))}
    if options.frames:
        columns["measured"] = figures(measured(options.frames), 1)
    rows = [
        {"plane": plane, "figure": figure, **{name: table[plane][figure] for name, table in columns.items()}}
        for plane in "UVW"
        for figure in columns["simulated"][plane]
    ]
    label = np.concatenate([event.truth.label for event in simulated if event.truth is not None])
    shares = {
        name: round(float((label == index).mean()), 4)
        for index, name in enumerate(("track", "em", "none", "michel"))
    }
    report(
        f"ProtoDUNE-HD, per anode plane assembly and window ({seconds:.1f} CPU s an event of {HITS:,} hits)",
        rows,
        options.json,
        machine=machine(),
        cpu_seconds_per_event=seconds,
        shares=shares,
    )
    print(shares)


if __name__ == "__main__":
    main()
