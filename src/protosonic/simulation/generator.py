"""Simulated events with truth, from particles to hits.

Particles are followed through the argon (:mod:`~protosonic.simulation.heavy`, :mod:`~protosonic.simulation.cascade`),
their ionisation drifts to the wires (:mod:`~protosonic.simulation.drift`) and becomes calibrated waveforms
(:mod:`~protosonic.simulation.signal`), on which the hit finder for real frames finds the hits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from protosonic.events.hit_finder import find_hits
from protosonic.events.hit_truth import hit_truth_from_samples
from protosonic.events.model import Event
from protosonic.simulation.conditions import Conditions
from protosonic.simulation.drift import WireCharge, drift_to_wires
from protosonic.simulation.hit_placement import place_hits
from protosonic.simulation.particles import ParticleList
from protosonic.simulation.primaries import PrimarySource
from protosonic.simulation.signal import dead_channels, form_waveforms
from protosonic.simulation.volumes import SIMULATED_DETECTORS, active_box, drift_volumes

if TYPE_CHECKING:
    from protosonic.detectors.geometry import Detector
    from protosonic.events.model import EventId

__all__ = ["SIMULATED_DETECTORS", "simulate_event"]

TRIGGER_TICK = 500.0
HIT_THRESHOLD = 0.6
_HITS_OF_A_PRIMARY = 1200  # of a muon through the detector, about the most of one primary
_HITS_OF_A_UNIT = 9000  # of the readout window of an anode plane assembly at the surface
_CELL_TICKS = 12  # clouds on a wire within that make about one hit


def simulate_event(
    detector: Detector,
    event_id: EventId,
    entry: int,
    hits: int,
    seed: int,
    *,
    vary_conditions: bool = False,
    stopping_share: float = 0.0,
) -> Event:
    """Simulate one event with truth.

    Parameters
    ----------
    detector
        One of :data:`SIMULATED_DETECTORS`.
    event_id, entry
        Its numbers and its position in the file. Together with the seed the numbers determine the event.
    hits
        Particles are added until there are at least this many hits. Crumbs of noise are as many as a full window
        has, or fewer in proportion to the hits.
    seed
        Seed of the campaign.
    vary_conditions
        Draw response, noise and thresholds anew for the event, around those of ProtoDUNE.
    stopping_share
        Share of the cosmic muons that are made to stop inside, for more Michel electrons than nature has.

    Raises
    ------
    ConfigError
        The detector cannot be simulated.
    """
    volumes = drift_volumes(detector)
    rng = np.random.default_rng([seed, *event_id])
    conditions = Conditions()
    if vary_conditions:
        conditions = conditions.varied(rng)
    dead = dead_channels(detector, conditions, rng)
    particles = ParticleList()
    drift_ticks = max(v.box.high[0] - v.box.low[0] for v in volumes) / (
        conditions.drift_mm_per_us * detector.tick_us
    )
    source = PrimarySource(
        detector, active_box(detector), particles, drift_ticks, TRIGGER_TICK, rng, stopping_share
    )
    units = len({volume.unit for volume in volumes})
    crumb_scale = min(hits / (_HITS_OF_A_UNIT * units), 1.0)
    clouds: list[WireCharge] = []
    found = 0
    wanted = hits
    while True:
        while found < wanted:
            more = drift_to_wires(
                source.draw(max(int(0.7 * (wanted - found) / _HITS_OF_A_PRIMARY), 1)), detector, conditions
            )
            clouds.append(more)
            found += _estimate_hits(more)
        charge = (
            WireCharge.concatenate(clouds) if clouds else drift_to_wires(source.draw(0), detector, conditions)
        )
        signal_rng = np.random.default_rng([seed, *event_id, 1])
        waveforms, sample_label = form_waveforms(charge, detector, conditions, dead, crumb_scale, signal_rng)
        collection = find_hits(waveforms, detector, HIT_THRESHOLD)
        if len(collection) >= hits:
            break
        wanted = found + max(hits - len(collection), _HITS_OF_A_PRIMARY // 4)
    truth = hit_truth_from_samples(collection, waveforms, sample_label)
    collection, truth = place_hits(collection, truth, charge, detector)
    return Event(
        id=event_id,
        entry=entry,
        detector=detector,
        n_ticks=detector.n_ticks,
        waveforms=waveforms,
        hits=collection,
        bad_channels=dead,
        truth=truth,
        sample_label=sample_label,
        particles=particles.build(),
    )


def _estimate_hits(charge: WireCharge) -> int:
    """Count the places on wires that get enough charge for a hit, without noise or overlap."""
    cell = np.stack(
        [
            charge.tpc,
            charge.plane,
            charge.coordinate.astype(np.int64),
            (charge.tick // _CELL_TICKS).astype(np.int64),
        ]
    ).astype(np.int64)
    number = ((cell[0] * 3 + cell[1]) * 2048 + cell[2]) * 8192 + cell[3] + 4096
    _, place = np.unique(number, return_inverse=True)
    return int((np.bincount(place.reshape(-1), weights=charge.charge) > 12.0).sum()) if len(charge) else 0
