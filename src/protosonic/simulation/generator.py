"""Toy events: straight muons, showers, Michel electrons and noise in horizontal-drift detectors.

A first, fast generator. Geometry, wrapping of wires, drift time, path length per wire, widths and the scale of the
charge are about right; the physics of showers is not. Every energy deposit is a Gaussian pulse on one wire of each
plane; waveforms are the sum of the pulses of a channel, and each pulse above threshold is a hit with its truth.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Self

import numpy as np

from protosonic.detectors.geometry import CRYOSTAT
from protosonic.errors import ConfigError
from protosonic.events.model import Event, EventId, Hits, Waveforms
from protosonic.events.truth import HitTruth

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from protosonic.detectors.geometry import Detector

__all__ = ["SIMULATED_DETECTORS", "simulate_event"]

# Detector → TPCs with a drift volume; the others of the ProtoDUNEs face the cryostat wall.
SIMULATED_DETECTORS = {
    "protodune-sp": (1, 2, 5, 6, 9, 10),
    "protodune-hd": (1, 2, 5, 6),
    "dune10kt-1x2x6": tuple(range(24)),
}

HEIGHT_MM, LENGTH_MM, DRIFT_MM = 5990.0, 2300.0, 3594.0
DRIFT_MM_PER_TICK = 0.8
PITCH_MM = (4.669, 4.669, 4.792)
ANGLE = np.deg2rad(35.7)
TRIGGER_TICK = 500
MIP_CHARGE_PER_MM = 35.0 / 4.79  # recob::Wire units × ticks
RESPONSE_TICKS = 2.6
DIFFUSION_TICKS2 = 2.25**2 / 4500  # per tick of drift
HIT_THRESHOLD = 0.6
KEEP_THRESHOLD = 0.02
TRACK, EM, NONE, MICHEL = range(4)


@dataclass(frozen=True)
class _Pulses:
    """Gaussian pulses on wires, one array element each."""

    tpc: NDArray[np.int16]
    plane: NDArray[np.int8]
    wire: NDArray[np.int32]
    tick: NDArray[np.float64]
    sigma: NDArray[np.float64]
    charge: NDArray[np.float64]
    label: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.wire)

    @property
    def amplitude(self) -> NDArray[np.float64]:
        height: NDArray[np.float64] = self.charge / (self.sigma * np.sqrt(2 * np.pi))
        return height

    def select(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Self:
        return type(self)(**{f.name: getattr(self, f.name)[which] for f in fields(self)})

    @classmethod
    def concatenate(cls, parts: list[Self]) -> Self:
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})


def simulate_event(detector: Detector, event_id: EventId, entry: int, hits: int, seed: int) -> Event:
    """Simulate one event with truth.

    Parameters
    ----------
    detector
        One of :data:`SIMULATED_DETECTORS`.
    event_id, entry
        Its numbers and its position in the file. Together with the seed the numbers determine the event.
    hits
        Particles are added until there are at least this many hits.
    seed
        Seed of the campaign.

    Raises
    ------
    ConfigError
        The detector cannot be simulated.
    """
    if detector.name not in SIMULATED_DETECTORS:
        raise ConfigError(
            f"{detector.name} cannot be simulated",
            where="--detector",
            expected=", ".join(SIMULATED_DETECTORS),
        )
    rng = np.random.default_rng([seed, *event_id])
    parts = [_noise(detector, rng, max(hits // 20, 10))]
    found = int((parts[0].amplitude > HIT_THRESHOLD).sum())
    while found < hits:
        particle = _particle(detector, rng)
        found += int((particle.amplitude > HIT_THRESHOLD).sum())
        parts.append(particle)
    pulses = _Pulses.concatenate(parts)
    channel = _channels(detector, pulses)
    order = np.lexsort((pulses.tick, channel))
    pulses, channel = pulses.select(order), channel[order]
    is_hit = np.flatnonzero(pulses.amplitude > HIT_THRESHOLD)
    return Event(
        id=event_id,
        entry=entry,
        detector=detector,
        n_ticks=detector.n_ticks,
        waveforms=_waveforms(detector, pulses, channel),
        hits=_hits(pulses.select(is_hit), channel[is_hit]),
        truth=HitTruth.of_labels(pulses.label[is_hit]),
    )


def _particle(detector: Detector, rng: np.random.Generator) -> _Pulses:
    """One muon, sometimes with a Michel electron where it stops, or one shower."""
    tpc = int(rng.choice(SIMULATED_DETECTORS[detector.name]))
    start_tick = rng.uniform(
        TRIGGER_TICK - 0.5 * DRIFT_MM / DRIFT_MM_PER_TICK, detector.n_ticks - TRIGGER_TICK
    )
    if rng.random() < 0.15:
        points = _shower_points(rng, _random_point(rng), energy_hits=int(rng.integers(50, 400)))
        return _pulses_of_points(detector, tpc, points, start_tick, EM, rng)
    top = np.array([rng.uniform(0, DRIFT_MM), HEIGHT_MM, rng.uniform(-0.3, 1.3) * LENGTH_MM])
    direction = _cosmic_direction(rng)
    stops = rng.random() < 0.2
    length = rng.uniform(500, 5000) if stops else 2 * HEIGHT_MM
    parts = [_pulses_of_track(detector, tpc, top, direction, length, start_tick, rng)]
    if stops:
        end = top + direction * length
        if np.all((end >= 0) & (end <= (DRIFT_MM, HEIGHT_MM, LENGTH_MM))):
            curl = _shower_points(rng, end, energy_hits=int(rng.integers(8, 25)), spread_mm=60.0)
            parts.append(_pulses_of_points(detector, tpc, curl, start_tick, MICHEL, rng))
    return _Pulses.concatenate(parts)


def _random_point(rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.uniform(0, (DRIFT_MM, HEIGHT_MM, LENGTH_MM))


def _cosmic_direction(rng: np.random.Generator) -> NDArray[np.float64]:
    """Downward, with the cos² law of the zenith angle."""
    cos_zenith = rng.random() ** (1 / 3)
    azimuth = rng.uniform(0, 2 * np.pi)
    sin_zenith = np.sqrt(1 - cos_zenith**2)
    return np.array([sin_zenith * np.cos(azimuth), -cos_zenith, sin_zenith * np.sin(azimuth)])


def _wire_coordinate(plane: int, y: NDArray[np.float64], z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Position across the wires of a plane, in pitches from its first wire."""
    along = {
        0: z * np.cos(ANGLE) + (HEIGHT_MM - y) * np.sin(ANGLE),
        1: z * np.cos(ANGLE) + y * np.sin(ANGLE),
        2: z,
    }[plane]
    position: NDArray[np.float64] = along / PITCH_MM[plane]
    return position


def _pulses_of_track(
    detector: Detector,
    tpc: int,
    start: NDArray[np.float64],
    direction: NDArray[np.float64],
    length: float,
    start_tick: float,
    rng: np.random.Generator,
) -> _Pulses:
    """One pulse where the track crosses each wire; a long one where it runs along the wire."""
    ends = np.stack([start, start + direction * length])
    parts = []
    for plane in range(3):
        first, last = _wire_coordinate(plane, ends[:, 1], ends[:, 2])
        low, high = sorted((first, last))
        wire = np.arange(np.floor(low), np.floor(high) + 1)
        # The part of the track above each wire, from and to as fractions of its length.
        slope = (last - first) or 1e-9
        enter, leave = np.sort(np.clip((np.stack([wire, wire + 1]) - first) / slope, 0, 1), axis=0)
        middle = start + direction * length * (0.5 * (enter + leave))[:, None]
        path_mm = (leave - enter) * length
        inside = np.all((middle >= 0) & (middle <= (DRIFT_MM, HEIGHT_MM, LENGTH_MM)), axis=1) & (path_mm > 0)
        charge = MIP_CHARGE_PER_MM * path_mm * (0.85 + rng.gamma(0.5, 0.3, len(wire)))
        spread = path_mm * abs(direction[0]) / DRIFT_MM_PER_TICK / np.sqrt(12)
        parts.append(
            _make(detector, tpc, plane, wire, middle[:, 0], charge, spread, start_tick, TRACK).select(inside)
        )
    return _in_readout(detector, _Pulses.concatenate(parts))


def _shower_points(
    rng: np.random.Generator, start: NDArray[np.float64], energy_hits: int, spread_mm: float = 400.0
) -> NDArray[np.float64]:
    """Points of a cascade: along an axis as a gamma distribution, widening with depth, with gaps."""
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    depth = rng.gamma(2.5, spread_mm / 2.5, energy_hits)
    across = rng.normal(size=(energy_hits, 3)) * (2 + 0.08 * depth)[:, None]
    points: NDArray[np.float64] = start + axis * depth[:, None] + across
    return points


def _pulses_of_points(
    detector: Detector,
    tpc: int,
    points: NDArray[np.float64],
    start_tick: float,
    label: int,
    rng: np.random.Generator,
) -> _Pulses:
    points = points[np.all((points >= 0) & (points <= (DRIFT_MM, HEIGHT_MM, LENGTH_MM)), axis=1)]
    charge = MIP_CHARGE_PER_MM * rng.gamma(2.0, 3.0, len(points))
    spread = rng.uniform(0, 3, len(points))
    parts = []
    for plane in range(3):
        wire = np.floor(_wire_coordinate(plane, points[:, 1], points[:, 2]))
        parts.append(_make(detector, tpc, plane, wire, points[:, 0], charge, spread, start_tick, label))
    return _in_readout(detector, _Pulses.concatenate(parts))


def _noise(detector: Detector, rng: np.random.Generator, n: int) -> _Pulses:
    """Crumbs of signal processing, most of them below the hit threshold."""
    tpcs = np.array(SIMULATED_DETECTORS[detector.name])
    plane = rng.integers(0, 3, n)
    tpc = rng.choice(tpcs, n)
    n_wires = np.array([detector.n_wires(int(t), int(p)) for t, p in zip(tpc, plane, strict=True)])
    sigma = rng.uniform(0.8, 2.0, n)
    amplitude = rng.exponential(0.35, n)
    return _Pulses(
        tpc=tpc.astype(np.int16),
        plane=plane.astype(np.int8),
        wire=(rng.random(n) * n_wires).astype(np.int32),
        tick=rng.uniform(0, detector.n_ticks - 1, n),
        sigma=sigma,
        charge=amplitude * sigma * np.sqrt(2 * np.pi),
        label=np.full(n, NONE, np.int8),
    )


def _make(
    detector: Detector,
    tpc: int,
    plane: int,
    wire: NDArray[np.float64],
    drift_mm: NDArray[np.float64],
    charge: NDArray[np.float64],
    spread: NDArray[np.float64],
    start_tick: float,
    label: int,
) -> _Pulses:
    n = len(wire)
    drift_ticks = np.clip(drift_mm, 0, DRIFT_MM) / DRIFT_MM_PER_TICK
    return _Pulses(
        tpc=np.full(n, tpc, np.int16),
        plane=np.full(n, plane, np.int8),
        wire=np.clip(wire, 0, detector.n_wires(tpc, plane) - 1).astype(np.int32),
        tick=start_tick + drift_ticks,
        sigma=np.sqrt(RESPONSE_TICKS**2 + spread**2 + DIFFUSION_TICKS2 * drift_ticks),
        charge=charge,
        label=np.full(n, label, np.int8),
    )


def _in_readout(detector: Detector, pulses: _Pulses) -> _Pulses:
    return pulses.select((pulses.tick >= 0) & (pulses.tick < detector.n_ticks))


def _channels(detector: Detector, pulses: _Pulses) -> NDArray[np.int32]:
    channel = np.empty(len(pulses), np.int32)
    for tpc, plane in detector.tables:
        here = (pulses.tpc == tpc) & (pulses.plane == plane)
        channel[here] = detector.tables[tpc, plane][pulses.wire[here]]
    return channel


def _waveforms(detector: Detector, pulses: _Pulses, channel: NDArray[np.int32]) -> Waveforms:
    """Sum the pulses of each channel; samples below a small charge are cut, as signal processing does."""
    first = np.maximum(np.floor(pulses.tick - 4 * pulses.sigma), 0).astype(np.int64)
    last = np.minimum(np.ceil(pulses.tick + 4 * pulses.sigma), detector.n_ticks - 1).astype(np.int64)
    length = last - first + 1
    pulse = np.repeat(np.arange(len(pulses)), length)
    tick = np.repeat(first - np.cumsum(length) + length, length) + np.arange(length.sum())
    value = pulses.amplitude[pulse] * np.exp(-0.5 * ((tick - pulses.tick[pulse]) / pulses.sigma[pulse]) ** 2)
    sample = channel[pulse].astype(np.int64) * detector.n_ticks + tick
    order = np.argsort(sample, kind="stable")
    starts = np.flatnonzero(np.diff(sample[order], prepend=-1))
    charge = np.add.reduceat(value[order], starts).astype(np.float32)
    keep = charge > KEEP_THRESHOLD
    kept_channel, kept_tick = np.divmod(sample[order][starts][keep], detector.n_ticks)
    channels, waveform = np.unique(kept_channel, return_inverse=True)
    n_samples = np.full(len(channels), detector.n_ticks, np.int32)
    return Waveforms.from_samples(
        channels.astype(np.int32), n_samples, waveform.reshape(-1), kept_tick, charge[keep]
    )


def _hits(pulses: _Pulses, channel: NDArray[np.int32]) -> Hits:
    n = len(pulses)
    return Hits(
        channel=channel,
        cryostat=np.full(n, CRYOSTAT, np.int16),
        tpc=pulses.tpc,
        plane=pulses.plane,
        wire=pulses.wire,
        peak_time=pulses.tick.astype(np.float32),
        rms=pulses.sigma.astype(np.float32),
        peak_amplitude=pulses.amplitude.astype(np.float32),
        integral=pulses.charge.astype(np.float32),
        in_wire_space=np.ones(n, dtype=bool),
    )
