"""Electrons, positrons and photons: the electromagnetic cascade of all showers of an event at once.

Electrons ionise, scatter and radiate step by step; photons make pairs, scatter or are absorbed after their free path.
All particles of the event are stepped together, so that a step costs a handful of array operations.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from protosonic.simulation.argon import (
    ELECTRON_MASS,
    RADIATION_LENGTH_MM,
    compton_energy,
    electron_loss,
    electron_range,
    highland_angle,
    photon_attenuation,
)
from protosonic.simulation.particles import EM, Depositions, random_directions, turn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from protosonic.simulation.particles import ParticleList
    from protosonic.simulation.volumes import Box

    Array = NDArray[np.float64]

__all__ = ["Photon", "Showering"]

STEP_MM, COARSE_STEP_MM, COARSE_ABOVE = 1.0, 2.0, 30.0
STOP_BELOW = 0.15  # MeV: 0.2 mm of range are left
PHOTON_CUT = 0.3  # MeV: softer bremsstrahlung is an even loss
PHOTON_EVERY = 25  # steps of electrons between two rounds of photons: photons know no time
NEUTRAL_PION_MASS = 134.977


class Photon(NamedTuple):
    """A photon to start with; `particle` is the row that gets the charge that it makes."""

    position: Array
    direction: Array
    energy: float
    tick: float
    particle: int


@dataclass(frozen=True)
class _Rays:
    """Electrons or photons on their way, one array element each.

    What they radiate belongs to `radiated`; it is ``em``, whatever they are themselves.
    """

    position: Array
    direction: Array
    energy: Array
    tick: Array
    label: NDArray[np.int8]
    particle: NDArray[np.int32]
    radiated: NDArray[np.int32]
    positron: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.energy)

    def select(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Self:
        return type(self)(**{field.name: getattr(self, field.name)[which] for field in fields(self)})

    @classmethod
    def concatenate(cls, parts: list[Self]) -> Self:
        return cls(
            **{
                field.name: np.concatenate([getattr(part, field.name) for part in parts])
                for field in fields(cls)
            }
        )

    def emitted(
        self, position: Array, direction: Array, energy: Array, positron: NDArray[np.bool_] | None = None
    ) -> Self:
        """Give what each of them sends out, as charge of its radiation."""
        n = len(energy)
        return type(self)(
            position,
            direction,
            energy,
            self.tick,
            np.full(n, EM, np.int8),
            self.radiated,
            self.radiated,
            np.zeros(n, bool) if positron is None else positron,
        )


class Showering:
    """Collects the electrons and photons of an event, then lets them shower together.

    Parameters
    ----------
    box
        What leaves it is lost.
    rng
        Random numbers.
    """

    def __init__(self, box: Box, rng: np.random.Generator) -> None:
        self._box = box
        self._rng = rng
        self._electrons: list[_Rays] = []
        self._photons: list[_Rays] = []

    def add_electrons(
        self,
        position: Array,
        direction: Array,
        energy: Array,
        tick: float,
        label: NDArray[np.int8],
        particle: NDArray[np.int32],
        radiated: NDArray[np.int32] | None = None,
    ) -> None:
        """Add electrons: float64 [n, 3] positions (mm) and directions, energies (MeV), classes and rows.

        Charge of their radiation belongs to the rows `radiated`, by default to themselves.
        """
        n = len(energy)
        self._electrons.append(
            _Rays(
                position,
                direction,
                energy,
                np.full(n, tick),
                label,
                particle,
                particle if radiated is None else radiated,
                np.zeros(n, bool),
            )
        )

    def add_photon(self, photon: Photon) -> None:
        """Add a photon."""
        row = np.array([photon.particle], np.int32)
        self._photons.append(
            _Rays(
                photon.position[None],
                photon.direction[None],
                np.array([photon.energy]),
                np.array([photon.tick]),
                np.array([EM], np.int8),
                row,
                row,
                np.zeros(1, bool),
            )
        )

    def add_neutral_pion(
        self,
        position: Array,
        direction: Array,
        energy: float,
        tick: float,
        parent: int,
        particles: ParticleList,
        rng: np.random.Generator,
    ) -> None:
        """Add the two photons of a neutral pion of a kinetic energy (MeV)."""
        gamma = 1 + energy / NEUTRAL_PION_MASS
        beta = np.sqrt(1 - 1 / gamma**2)
        cosine, azimuth = rng.uniform(-1, 1), rng.uniform(0, 2 * np.pi)
        for sign in (1, -1):
            photon_energy = NEUTRAL_PION_MASS / 2 * gamma * (1 + sign * beta * cosine)
            angle = (beta + sign * cosine) / (1 + sign * beta * cosine)
            way = turn(direction[None], np.array([angle]), np.array([azimuth + np.pi * (sign < 0)]))[0]
            row = particles.add(22, parent, EM, float(photon_energy), position, way, tick)
            self.add_photon(Photon(position, way, float(photon_energy), tick, row))

    def run(self) -> Depositions:
        """Let everything that was added shower to its end, and forget it."""
        parts: list[Depositions] = []
        electrons, photons = self._electrons, self._photons
        self._electrons, self._photons = [], []
        active = _Rays.concatenate(electrons) if electrons else None
        while active is not None or photons:
            if photons:
                made = self._convert(_Rays.concatenate(photons), parts)
                photons = []
                if made:
                    active = _Rays.concatenate([*made] if active is None else [active, *made])
            for _ in range(PHOTON_EVERY):
                if active is None:
                    break
                active = self._step(active, photons, parts)
        return Depositions.concatenate(parts)

    def _step(self, electrons: _Rays, photons: list[_Rays], parts: list[Depositions]) -> _Rays | None:
        """Take one step of every electron; returns those that go on."""
        rng = self._rng
        energy = electrons.energy
        step = np.where(energy > COARSE_ABOVE, COARSE_STEP_MM, STEP_MM)
        step = np.minimum(step, np.maximum(0.3 * electron_range(energy), 0.05))
        # Bremsstrahlung above the cut, with the cross section of complete screening.
        hard = np.maximum(energy / PHOTON_CUT, 1.0)
        rate = (4 / 3 * (np.log(hard) - 1 + 1 / hard) + 0.5 * (1 - 1 / hard**2)) / RADIATION_LENGTH_MM
        soft = np.minimum(PHOTON_CUT, energy) / RADIATION_LENGTH_MM
        mean = (electron_loss(energy) + soft) * step
        loss = np.minimum(mean * rng.standard_gamma(6.0, len(energy)) / 6.0, energy)
        left = energy - loss
        radiates = (rng.random(len(energy)) < rate * step) & (left > PHOTON_CUT)
        middle = electrons.position + 0.5 * step[:, None] * electrons.direction
        ends = (left < STOP_BELOW) & ~radiates
        loss = np.where(ends, energy, loss)
        parts.append(Depositions(middle, electrons.tick, loss, step, electrons.label, electrons.particle))
        position = electrons.position + step[:, None] * electrons.direction
        momentum_beta = left * (left + 2 * ELECTRON_MASS) / (left + ELECTRON_MASS)
        width = np.minimum(highland_angle(np.maximum(momentum_beta, 0.05), step), 1.2)
        angle = np.hypot(*(rng.standard_normal((2, len(energy))) * width))
        direction = turn(electrons.direction, np.cos(angle), rng.uniform(0, 2 * np.pi, len(energy)))
        if radiates.any():
            emitters = electrons.select(radiates)
            photon = _bremsstrahlung(left[radiates], rng)
            photons.append(emitters.emitted(position[radiates], direction[radiates], photon))
            left[radiates] -= photon
        annihilates = ends & electrons.positron
        if annihilates.any():
            self._annihilate(electrons.select(annihilates), position[annihilates], photons)
        ends |= left < STOP_BELOW
        goes_on = ~ends & self._box.contains(position)
        if not goes_on.any():
            return None
        moved = _Rays(
            position,
            direction,
            left,
            electrons.tick,
            electrons.label,
            electrons.particle,
            electrons.radiated,
            electrons.positron,
        )
        return moved.select(goes_on)

    def _annihilate(self, positrons: _Rays, position: Array, photons: list[_Rays]) -> None:
        direction = random_directions(self._rng, len(positrons))
        energy = np.full(len(positrons), ELECTRON_MASS)
        photons.append(positrons.emitted(position, direction, energy))
        photons.append(positrons.emitted(position, -direction, energy))

    def _convert(self, photons: _Rays, parts: list[Depositions]) -> list[_Rays]:
        """Follow photons until none is left; returns the electrons that they make."""
        rng = self._rng
        made: list[_Rays] = []
        while len(photons):
            pair, compton, absorption = photon_attenuation(photons.energy)
            total = pair + compton + absorption
            position = (
                photons.position
                + photons.direction * (rng.standard_exponential(len(photons)) / total)[:, None]
            )
            inside = self._box.contains(position)
            choice = rng.random(len(photons)) * total
            makes_pair = inside & (choice < pair)
            scatters = inside & ~makes_pair & (choice < pair + compton)
            absorbed = inside & ~makes_pair & ~scatters
            if makes_pair.any():
                made.extend(self._pair(photons.select(makes_pair), position[makes_pair]))
            if absorbed.any():
                gone = photons.select(absorbed)
                parts.append(_at_point(gone, position[absorbed], gone.energy))
            if not scatters.any():
                break
            photons = self._compton(photons.select(scatters), position[scatters], made, parts)
        return made

    def _pair(self, photons: _Rays, position: Array) -> list[_Rays]:
        rng = self._rng
        available = np.maximum(photons.energy - 2 * ELECTRON_MASS, 0.0)
        share = rng.random(len(photons))
        angle = ELECTRON_MASS / np.maximum(photons.energy, ELECTRON_MASS)
        azimuth = rng.uniform(0, 2 * np.pi, len(photons))
        return [
            photons.emitted(
                position,
                turn(photons.direction, np.cos(angle), azimuth + np.pi * is_positron),
                np.maximum(available * part, 1e-3),
                np.full(len(photons), is_positron),
            )
            for part, is_positron in ((share, False), (1 - share, True))
        ]

    def _compton(self, photons: _Rays, position: Array, made: list[_Rays], parts: list[Depositions]) -> _Rays:
        """Scatter; returns the photons that go on."""
        rng = self._rng
        energy = photons.energy
        scattered, cosine = compton_energy(energy, rng)
        azimuth = rng.uniform(0, 2 * np.pi, len(photons))
        recoil = energy - scattered
        momentum = np.sqrt(np.maximum(recoil * (recoil + 2 * ELECTRON_MASS), 1e-12))
        recoil_cosine = np.clip((energy - scattered * cosine) / momentum, -1, 1)
        electrons = photons.emitted(position, turn(photons.direction, recoil_cosine, azimuth + np.pi), recoil)
        moves = recoil > STOP_BELOW
        made.append(electrons.select(moves))
        stays = electrons.select(~moves)
        parts.append(_at_point(stays, stays.position, stays.energy))
        goes_on = photons.emitted(position, turn(photons.direction, cosine, azimuth), scattered)
        low = scattered < 0.02
        if low.any():
            gone = goes_on.select(low)
            parts.append(_at_point(gone, gone.position, gone.energy))
        return goes_on.select(~low)


def _at_point(rays: _Rays, position: Array, energy: Array) -> Depositions:
    """Leave energy where it is; so short an electron has the density of its last tenth of a millimetre."""
    return Depositions(position, rays.tick, energy, np.full(len(rays), 0.1), rays.label, rays.radiated)


def _bremsstrahlung(energy: Array, rng: np.random.Generator) -> Array:
    """Sample photon energies above the cut: 4/3 (1 − y) / y + y."""
    photon = np.empty_like(energy)
    left = np.arange(len(energy))
    while len(left):
        least = PHOTON_CUT / energy[left]
        y = least ** rng.random(len(left))
        accepted = rng.random(len(left)) * (4 / 3) < 4 / 3 * (1 - y) + y**2
        photon[left[accepted]] = (y * energy[left])[accepted]
        left = left[~accepted]
    return photon
