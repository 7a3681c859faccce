"""What enters or starts in a detector: cosmic rays, beam particles, neutrino-like vertices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from protosonic.simulation.argon import range_table
from protosonic.simulation.cascade import Photon, Showering
from protosonic.simulation.heavy import MASS, MUON, PION, PROTON, Heavy, follow
from protosonic.simulation.particles import EM, Depositions, random_directions, turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from protosonic.detectors.geometry import Detector
    from protosonic.simulation.particles import ParticleList
    from protosonic.simulation.volumes import Box

__all__ = ["PrimarySource"]

# Shares of the primaries after the first, by detector.
_SURFACE = {"muon": 0.66, "soft": 0.10, "photon": 0.18, "vertex": 0.06}
_UNDERGROUND = {"muon": 0.15, "soft": 0.0, "photon": 0.20, "vertex": 0.65}
MUON_CHARGE_RATIO = 1.25
MUON_MOMENTUM_MEDIAN, MUON_MOMENTUM_SPREAD = 2300.0, 1.1  # MeV and width of the logarithm, at the detector
BEAM_DIRECTION = np.array([-0.18, -0.20, 0.963])
BEAM_PARTICLES = {PION: 0.5, PROTON: 0.2, -11: 0.2, -MUON: 0.1}


@dataclass
class PrimarySource:
    """Makes primaries of one event and follows them.

    Attributes
    ----------
    detector, box
        Where they go; what leaves the box is lost.
    particles
        Takes all rows.
    drift_ticks
        Longest drift: what comes that much before the window still reaches into it.
    trigger_tick
        Time of the beam particle or of the first vertex.
    rng
        Random numbers.
    stopping_share
        Share of the cosmic muons that are given an energy with which they stop inside; the others have the energies
        of nature.
    """

    detector: Detector
    box: Box
    particles: ParticleList
    drift_ticks: float
    trigger_tick: float
    rng: np.random.Generator
    stopping_share: float = 0.0

    def __post_init__(self) -> None:
        self._showering = Showering(self.box, self.rng)
        self._makers: dict[str, Callable[[float], list[Heavy]]] = {
            "muon": self._cosmic_muon,
            "soft": self._soft_component,
            "photon": self._photon,
            "vertex": self._vertex,
        }
        shares = _UNDERGROUND if self.detector.name.startswith("dune10kt") else _SURFACE
        self._kinds, self._shares = list(shares), list(shares.values())
        self._started = False

    def draw(self, n: int) -> Depositions:
        """Make `n` more primaries and let them run to their end.

        The first of an event is what triggers it: a beam particle in a ProtoDUNE, a vertex in the far detector.
        """
        heavies: list[Heavy] = []
        for _ in range(n):
            if not self._started and n > 1:
                heavies += (
                    self._vertex(self.trigger_tick)
                    if self.detector.name.startswith("dune10kt")
                    else self._beam(self.trigger_tick)
                )
            else:
                kind = self.rng.choice(self._kinds, p=self._shares)
                tick = float(self.rng.uniform(-self.drift_ticks, self.detector.n_ticks))
                heavies += self._makers[kind](tick)
            self._started = True
        parts = []
        while heavies:
            steps, products = follow(
                heavies.pop(), self.box, self.particles, self._showering, self.detector.tick_us, self.rng
            )
            parts.append(steps)
            heavies += [heavy for heavy in products if self.box.contains(heavy.position)]
        parts.append(self._showering.run())
        return Depositions.concatenate(parts)

    def _entry(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give where a cosmic ray enters, and its direction: intensity with the cos² law of the zenith angle."""
        rng = self.rng
        radius = 0.5 * float(np.linalg.norm(self.box.high - self.box.low))
        while True:
            cosine = rng.random() ** (1 / 3)
            azimuth = rng.uniform(0, 2 * np.pi)
            sine = np.sqrt(1 - cosine**2)
            direction = np.array([sine * np.cos(azimuth), -cosine, sine * np.sin(azimuth)])
            beside = turn(direction[None], np.zeros(1), rng.uniform(0, 2 * np.pi, 1))[0]
            point = 0.5 * (self.box.low + self.box.high) + beside * radius * np.sqrt(rng.random())
            enter, leave = self.box.chord(point, direction)
            if leave - enter > 1.0:
                return point + direction * (float(enter) + 1e-3), direction

    def _cosmic_muon(self, tick: float) -> list[Heavy]:
        position, direction = self._entry()
        momentum = MUON_MOMENTUM_MEDIAN * np.exp(MUON_MOMENTUM_SPREAD * self.rng.normal())
        energy = float(np.hypot(momentum, MASS[MUON]) - MASS[MUON])
        if self.rng.random() < self.stopping_share:
            _, leave = self.box.chord(position, direction)
            energy = float(range_table(MASS[MUON]).energy(float(leave) * self.rng.uniform(0.1, 1.0)))
        positive = self.rng.random() < MUON_CHARGE_RATIO / (1 + MUON_CHARGE_RATIO)
        return [Heavy(-MUON if positive else MUON, max(energy, 20.0), position, direction, tick)]

    def _soft_component(self, tick: float) -> list[Heavy]:
        """Make an electron or photon of an air shower, energy spectrum E⁻² from 30 MeV to 3 GeV."""
        position, direction = self._entry()
        energy = 1 / self.rng.uniform(1 / 3000, 1 / 30)
        if self.rng.random() < 0.7:
            self._add_photon(position, direction, energy, tick)
        else:
            self._add_electron(11, position, direction, energy, tick)
        return []

    def _photon(self, tick: float) -> list[Heavy]:
        """Make a photon of a neutron or of radiation from outside, 1 to 200 MeV, flat in the logarithm."""
        position = self.rng.uniform(self.box.low, self.box.high)
        direction = random_directions(self.rng, 1)[0]
        self._add_photon(position, direction, float(np.exp(self.rng.uniform(0, np.log(200)))), tick)
        return []

    def _vertex(self, tick: float) -> list[Heavy]:
        """Make a lepton and hadrons from one point, forward along the beam."""
        rng = self.rng
        position = rng.uniform(self.box.low, self.box.high)
        heavies = []
        lepton = float(np.exp(rng.uniform(np.log(200), np.log(3000))))
        if rng.random() < 0.6:
            heavies.append(Heavy(MUON, lepton, position, self._forward(0.15), tick))
        else:
            self._add_electron(11, position, self._forward(0.15), lepton, tick)
        heavies += [
            Heavy(PROTON, 20 + float(rng.exponential(100)), position, self._forward(0.8), tick)
            for _ in range(rng.poisson(1.5))
        ]
        for _ in range(rng.poisson(0.8)):
            sign = 1 if rng.random() < 0.6 else -1
            heavies.append(
                Heavy(sign * PION, 30 + float(rng.exponential(250)), position, self._forward(0.5), tick)
            )
        for _ in range(rng.poisson(0.4)):
            self._showering.add_neutral_pion(
                position, self._forward(0.5), float(rng.exponential(250)), tick, -1, self.particles, rng
            )
        for _ in range(rng.poisson(2)):
            self._add_photon(position, random_directions(rng, 1)[0], float(rng.uniform(0.5, 7)), tick)
        return heavies

    def _beam(self, tick: float) -> list[Heavy]:
        """Make a beam particle of 1 to 7 GeV/c."""
        rng = self.rng
        direction = turn(
            (BEAM_DIRECTION / np.linalg.norm(BEAM_DIRECTION))[None],
            np.array([1 - rng.exponential(0.002)]),
            rng.uniform(0, 2 * np.pi, 1),
        )[0]
        position = np.array(
            [rng.normal(-300, 40), self.box.low[1] + rng.normal(4150, 40), self.box.low[2] + 1.0]
        )
        pdg = int(rng.choice(list(BEAM_PARTICLES), p=list(BEAM_PARTICLES.values())))
        momentum = float(rng.choice([1000.0, 2000.0, 3000.0, 6000.0, 7000.0]))
        if pdg == -11:
            self._add_electron(-11, position, direction, momentum, tick)
            return []
        mass = MASS[abs(pdg)]
        return [Heavy(pdg, float(np.hypot(momentum, mass) - mass), position, direction, tick)]

    def _forward(self, spread: float) -> NDArray[np.float64]:
        cosine = np.clip(1 - self.rng.exponential(spread), -1, 1)
        azimuth = self.rng.uniform(0, 2 * np.pi, 1)
        direction: NDArray[np.float64] = turn(np.array([[0.0, 0.0, 1.0]]), np.array([cosine]), azimuth)[0]
        return direction

    def _add_photon(
        self, position: NDArray[np.float64], direction: NDArray[np.float64], energy: float, tick: float
    ) -> None:
        row = self.particles.add(22, -1, EM, energy, position, direction, tick)
        self._showering.add_photon(Photon(position, direction, energy, tick, row))

    def _add_electron(
        self,
        pdg: int,
        position: NDArray[np.float64],
        direction: NDArray[np.float64],
        energy: float,
        tick: float,
    ) -> None:
        row = self.particles.add(pdg, -1, EM, energy, position, direction, tick)
        self._showering.add_electrons(
            position[None],
            direction[None],
            np.array([energy]),
            tick,
            np.array([EM], np.int8),
            np.array([row], np.int32),
        )
