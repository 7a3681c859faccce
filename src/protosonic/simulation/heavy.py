"""Muons, pions and protons: tracks with energy loss, scattering, knock-on electrons, decay and interaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from protosonic.simulation.argon import (
    DELTA_CUT,
    ELECTRON_MASS,
    beta_squared,
    delta_density,
    heavy_loss,
    highland_angle,
    range_table,
)
from protosonic.simulation.cascade import Photon, Showering
from protosonic.simulation.particles import (
    EM,
    MICHEL,
    TRACK,
    Depositions,
    random_directions,
    turn,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from protosonic.simulation.particles import ParticleList
    from protosonic.simulation.volumes import Box

    Vector = NDArray[np.float64]

__all__ = ["MASS", "Heavy", "follow"]

MUON, PION, PROTON = 13, 211, 2212
MASS = {MUON: 105.6584, PION: 139.5704, PROTON: 938.2721}

STEP_MM = 1.5
RESOLVED_TRANSFER = 0.01  # MeV: smaller energy transfers are an even loss
VISIBLE_DELTA = 3.0
"""Knock-on electrons above it (MeV, about 1.5 cm) are ``em``; the charge of softer ones counts as their track's."""
INTERACTION_LENGTH_MM = {
    PION: 1070.0,
    PROTON: 850.0,
}  # 149 and 118 g/cm² (nuclear interaction length of argon)
MUON_LIFETIME_US, CAPTURED_LIFETIME_US = 2.197, 0.57
CAPTURE_SHARE = 0.73
MICHEL_ENDPOINT = 52.83
MAX_GENERATIONS = 4


@dataclass(frozen=True)
class Heavy:
    """A charged particle that leaves a track.

    Attributes
    ----------
    pdg
        PDG number; the charge is its sign for muons (13 is negative), pions and protons.
    energy
        Kinetic energy, MeV.
    position, direction
        float64 [3]: mm and unit vector.
    tick
        Time, ticks.
    parent
        Row of the parent, −1 for a primary.
    generation
        Interactions before it.
    """

    pdg: int
    energy: float
    position: Vector
    direction: Vector
    tick: float
    parent: int = -1
    generation: int = 0


@dataclass(frozen=True)
class _Path:
    """Steps of a track inside of the box."""

    position: Vector
    direction: Vector
    energy: Vector
    step_mm: float
    complete: bool  # ended where it was meant to, not at the wall


def follow(
    heavy: Heavy,
    box: Box,
    particles: ParticleList,
    showering: Showering,
    tick_us: float,
    rng: np.random.Generator,
) -> tuple[Depositions, list[Heavy]]:
    """Follow one particle to its end.

    Parameters
    ----------
    heavy
        The particle; it starts inside of the box.
    box
        What leaves it is lost.
    particles
        Takes the new rows.
    showering
        Takes electrons and photons.
    tick_us
        Length of a tick, µs.
    rng
        Random numbers.

    Returns
    -------
    The energy along the track, and the charged hadrons and muons that come out of its end.
    """
    kind = abs(heavy.pdg)
    mass = MASS[kind]
    table = range_table(mass)
    full_range = float(table.range_mm(heavy.energy))
    free = rng.exponential(INTERACTION_LENGTH_MM[kind]) if kind in INTERACTION_LENGTH_MM else np.inf
    path = _walk(heavy, mass, full_range, min(free, full_range), box, rng)
    row = particles.add(
        heavy.pdg, heavy.parent, TRACK, heavy.energy, heavy.position, heavy.direction, heavy.tick
    )
    if not len(path.energy):
        return Depositions.empty(), []
    loss = _ionise(path, mass, rng)
    n = len(loss)
    depositions = Depositions(
        position=path.position,
        tick=np.full(n, heavy.tick),
        energy=loss,
        path=np.full(n, path.step_mm),
        label=np.full(n, TRACK, np.int8),
        particle=np.full(n, row, np.int32),
    )
    _knock_on(path, mass, row, heavy.tick, particles, showering, rng)
    if kind == MUON:
        _radiate(path, row, heavy.tick, particles, showering, rng)
    if not path.complete:
        return depositions, []
    if free < full_range:
        left = float(table.energy(full_range - free))
        return depositions, _interact(heavy, path, left, row, particles, showering, rng)
    if kind != PROTON:
        return depositions, _stop(heavy, path, row, tick_us, particles, showering, rng)
    return depositions, []


def _walk(
    heavy: Heavy, mass: float, full_range: float, length: float, box: Box, rng: np.random.Generator
) -> _Path:
    """Step along the track with multiple scattering, up to the wall."""
    _, leave = box.chord(heavy.position, heavy.direction)
    # Scattering makes the way to the wall longer, rarely by more than this.
    planned = min(length, 1.3 * max(float(leave), 0.0) + 300.0)
    step = min(STEP_MM, max(full_range / 30, 0.2))
    n = max(int(np.ceil(planned / step)), 1)
    if planned == length:
        step = length / n
    middle = (np.arange(n) + 0.5) * step
    energy = range_table(mass).energy(np.asarray(full_range - middle, np.float64))
    momentum_beta = energy * (energy + 2 * mass) / (energy + mass)
    width = np.minimum(highland_angle(momentum_beta, step), 1.0)
    across = np.cumsum(rng.normal(size=(2, n)) * width, axis=1)
    first = turn(heavy.direction[None], np.zeros(1), np.zeros(1))[0]
    second = np.cross(heavy.direction, first)
    direction = heavy.direction + across[0][:, None] * first + across[1][:, None] * second
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    end = heavy.position + np.cumsum(direction * step, axis=0)
    position = end - direction * (0.5 * step)
    outside = np.flatnonzero(~box.contains(end))
    kept = int(outside[0]) if len(outside) else n
    complete = kept == n and planned == length
    return _Path(position[:kept], direction[:kept], energy[:kept], step, complete)


def _ionise(path: _Path, mass: float, rng: np.random.Generator) -> Vector:
    """Give the energy of each step: the even part, and the transfers up to the cut one by one."""
    upper = np.minimum(delta_density(path.energy, mass)[1], DELTA_CUT)
    loss = heavy_loss(path.energy, mass, RESOLVED_TRANSFER) * path.step_mm
    factor = delta_density(path.energy, mass)[0]
    mean = factor * np.clip(1 / RESOLVED_TRANSFER - 1 / upper, 0, None) * path.step_mm
    count = rng.poisson(mean)
    step = np.repeat(np.arange(len(count)), count)
    transfer = RESOLVED_TRANSFER / (1 - rng.random(len(step)) * (1 - RESOLVED_TRANSFER / upper[step]))
    loss += np.bincount(step, weights=transfer, minlength=len(count))
    return np.asarray(np.minimum(loss, path.energy))


def _knock_on(
    path: _Path,
    mass: float,
    row: int,
    tick: float,
    particles: ParticleList,
    showering: Showering,
    rng: np.random.Generator,
) -> None:
    """Make the electrons above the cut."""
    factor, largest = delta_density(path.energy, mass)
    possible = largest > DELTA_CUT
    mean = np.where(possible, factor * (1 / DELTA_CUT - 1 / np.maximum(largest, DELTA_CUT)), 0.0)
    count = rng.poisson(mean * path.step_mm)
    step = np.repeat(np.arange(len(count)), count)
    energy = DELTA_CUT / (1 - rng.random(len(step)) * (1 - DELTA_CUT / largest[step]))
    suppressed = beta_squared(path.energy[step], mass) * energy / largest[step]
    taken = (rng.random(len(step)) > suppressed) & (energy < path.energy[step])
    step, energy = step[taken], energy[taken]
    if not len(step):
        return
    momentum = np.sqrt(energy * (energy + 2 * ELECTRON_MASS))
    most = np.sqrt(largest[step] * (largest[step] + 2 * ELECTRON_MASS))
    cosine = np.clip(energy / momentum * most / largest[step], -1, 1)
    direction = turn(path.direction[step], cosine, rng.uniform(0, 2 * np.pi, len(step)))
    visible = energy > VISIBLE_DELTA
    rows = np.full(len(step), row, np.int32)
    for i in np.flatnonzero(visible):
        rows[i] = particles.add(11, row, EM, float(energy[i]), path.position[step[i]], direction[i], tick)
    label = np.where(visible, EM, TRACK).astype(np.int8)
    showering.add_electrons(path.position[step], direction, energy, tick, label, rows)


def _radiate(
    path: _Path,
    row: int,
    tick: float,
    particles: ParticleList,
    showering: Showering,
    rng: np.random.Generator,
) -> None:
    """Make the hard photons and pairs of fast muons, as photons with the spectrum 1/v above 1 % of the energy."""
    per_mm = 3.0e-7  # b of bremsstrahlung and pair production in argon, about 2.2e-6 cm²/g together
    least = 0.01
    n = rng.poisson(per_mm * np.log(1 / least) * len(path.energy) * path.step_mm)
    for step in rng.integers(0, len(path.energy), n):
        energy = float(path.energy[step] * least ** rng.random())
        if energy < 5.0:
            continue
        position, direction = path.position[step], path.direction[step]
        child = particles.add(22, row, EM, energy, position, direction, tick)
        showering.add_photon(Photon(position, direction, energy, tick, child))


def _stop(
    heavy: Heavy,
    path: _Path,
    row: int,
    tick_us: float,
    particles: ParticleList,
    showering: Showering,
    rng: np.random.Generator,
) -> list[Heavy]:
    """Let a stopped muon decay or be captured; a positive pion becomes a muon, a negative one is absorbed."""
    end = path.position[-1]
    if heavy.pdg == PION:
        direction = random_directions(rng, 1)[0]
        return [Heavy(-MUON, 4.12, end, direction, heavy.tick, row, heavy.generation)]
    if heavy.pdg == -PION:
        _nuclear_photons(end, heavy.tick, row, particles, showering, rng)
        return [
            Heavy(PROTON, float(rng.exponential(15)) + 2, end, direction, heavy.tick, row, heavy.generation)
            for direction in random_directions(rng, int(rng.poisson(1.5)))
        ]
    captured = heavy.pdg == MUON and rng.random() < CAPTURE_SHARE
    lifetime = CAPTURED_LIFETIME_US if heavy.pdg == MUON else MUON_LIFETIME_US
    tick = heavy.tick + rng.exponential(lifetime) / tick_us
    if captured:
        _nuclear_photons(end, tick, row, particles, showering, rng)
        return []
    energy = MICHEL_ENDPOINT * _michel_fraction(rng)
    direction = random_directions(rng, 1)[0]
    child = particles.add(-11 if heavy.pdg < 0 else 11, row, MICHEL, energy, end, direction, tick)
    radiated = particles.add(22, child, EM, 0.0, end, direction, tick)
    showering.add_electrons(
        end[None],
        direction[None],
        np.array([energy]),
        tick,
        np.array([MICHEL], np.int8),
        np.array([child], np.int32),
        np.array([radiated], np.int32),
    )
    return []


def _michel_fraction(rng: np.random.Generator) -> float:
    """Sample the Michel spectrum x²(3 − 2x)."""
    while True:
        x = float(rng.random())
        if rng.random() < x * x * (3 - 2 * x):
            return x


def _nuclear_photons(
    position: Vector,
    tick: float,
    row: int,
    particles: ParticleList,
    showering: Showering,
    rng: np.random.Generator,
) -> None:
    """Make de-excitation photons, and those that neutrons leave at a distance."""
    for direction in random_directions(rng, int(rng.poisson(3))):
        energy = float(rng.uniform(0.5, 7.0))
        away = position + direction * rng.exponential(150.0) * (rng.random() < 0.5)
        child = particles.add(22, row, EM, energy, away, direction, tick)
        showering.add_photon(Photon(away, direction, energy, tick, child))


def _interact(
    heavy: Heavy,
    path: _Path,
    energy: float,
    row: int,
    particles: ParticleList,
    showering: Showering,
    rng: np.random.Generator,
) -> list[Heavy]:
    """Break up a nucleus: protons, pions of both charges and neutral ones, photons."""
    end = path.position[-1]
    _nuclear_photons(end, heavy.tick, row, particles, showering, rng)
    if heavy.generation >= MAX_GENERATIONS:
        return []
    products: list[Heavy] = []
    available = energy + (MASS[PION] if abs(heavy.pdg) == PION else 0.0)
    forward = path.direction[-1]
    leading = abs(heavy.pdg)
    while available > 25.0 and len(products) < 8:
        share = available * rng.beta(1.2, 2.0)
        spread = np.clip(1 - rng.exponential(0.15 + 60.0 / (available + 60.0)), -1, 1)
        direction = turn(forward[None], np.array([spread]), rng.uniform(0, 2 * np.pi, 1))[0]
        kind = rng.choice(3, p=(0.5, 0.35, 0.15) if share > MASS[PION] + 20 else (1.0, 0.0, 0.0))
        if kind == 0 and leading == PION and not products and share > 40 and rng.random() < 0.5:
            kind = 1
        if kind == 1 and share > MASS[PION]:
            sign = 1 if rng.random() < 0.5 else -1
            pion = share - MASS[PION]
            products.append(Heavy(sign * PION, pion, end, direction, heavy.tick, row, heavy.generation + 1))
        elif kind == 2:
            showering.add_neutral_pion(end, direction, share, heavy.tick, row, particles, rng)
        elif rng.random() < 0.5:  # the other half are neutrons
            products.append(
                Heavy(PROTON, min(share, 400.0), end, direction, heavy.tick, row, heavy.generation + 1)
            )
        available -= share + 8.0
    return products
