"""Liquid argon: energy loss of charged particles, ranges, photon cross sections and recombination.

Energies are kinetic and in MeV, lengths in millimetres. Formulas and constants: Review of Particle Physics (2022),
chapter 34 (Bethe, Møller, Highland, bremsstrahlung, Klein-Nishina), and its tables for liquid argon; density of
ProtoDUNE (87.68 K). Recombination: the modified box model of ArgoNeuT (doi:10.1088/1748-0221/8/08/P08005).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = [
    "DELTA_CUT",
    "ELECTRON_MASS",
    "RADIATION_LENGTH_MM",
    "RangeTable",
    "collected_electrons",
    "compton_energy",
    "electron_loss",
    "electron_range",
    "highland_angle",
    "photon_attenuation",
    "range_table",
]

ELECTRON_MASS = 0.51099895
DENSITY = 1.389  # g/cm³
RADIATION_LENGTH_MM = 195.5 / DENSITY
DELTA_CUT = 0.5
"""Electrons knocked out with more than this are particles of their own."""

_K = 0.0307075 * 0.45059 * DENSITY  # MeV/mm: the constant K of the Bethe formula times Z/A and density
_EXCITATION = 188e-6
_ELECTRONS_PER_MM3 = DENSITY / 39.948 * 6.02214e23 * 18 * 1e-3
_CLASSICAL_RADIUS_MM = 2.8179403e-12

_PAIR_ENERGY = np.array([1.022, 1.5, 2, 3, 5, 10, 20, 50, 100, 300, 1000, 1e5])
_PAIR_SHARE = np.array([0, 0.006, 0.03, 0.09, 0.2, 0.36, 0.53, 0.72, 0.83, 0.93, 0.97, 1.0])
"""Pair production as a share of its limit 7/9 per radiation length, rounded."""


def _density_effect(beta_gamma: Array) -> Array:
    """Sternheimer's parametrisation for liquid argon."""
    x = np.log10(beta_gamma)
    delta = 2 * np.log(10) * x - 5.2146 + 0.19559 * np.clip(3.0 - x, 0, None) ** 3
    return np.where(x < 0.2, 0.0, np.maximum(delta, 0.0))


def max_transfer(energy: Array, mass: float) -> Array:
    """Give the largest energy that a heavy particle can hand to an electron."""
    gamma = 1 + energy / mass
    ratio = ELECTRON_MASS / mass
    transfer: Array = 2 * ELECTRON_MASS * (gamma**2 - 1) / (1 + 2 * gamma * ratio + ratio**2)
    return transfer


def beta_squared(energy: Array, mass: float) -> Array:
    """Give the square of the velocity."""
    squared: Array = 1 - 1 / (1 + energy / mass) ** 2
    return squared


def heavy_loss(energy: Array, mass: float, cut: float = np.inf) -> Array:
    """Give the mean energy loss of a particle heavier than the electron, MeV/mm.

    Parameters
    ----------
    cut
        Transfers above it are left out (restricted energy loss).
    """
    gamma = 1 + energy / mass
    beta2 = beta_squared(energy, mass)
    largest = max_transfer(energy, mass)
    upper = np.minimum(cut, largest)
    logarithm = 0.5 * np.log(2 * ELECTRON_MASS * (gamma**2 - 1) * upper / _EXCITATION**2)
    shape = logarithm - beta2 / 2 * (1 + upper / largest) - _density_effect(np.sqrt(gamma**2 - 1)) / 2
    loss: Array = _K / beta2 * np.maximum(shape, 0.5)  # the formula fails below about 1 MeV of a proton
    return loss


def delta_density(energy: Array, mass: float) -> tuple[Array, Array]:
    """Give the factor of the spectrum of knock-on electrons, per mm and 1/T², and their largest energy."""
    return _K / 2 / beta_squared(energy, mass), max_transfer(energy, mass)


class RangeTable:
    """Energy against range of a particle that stops (continuous slowing down).

    Parameters
    ----------
    mass
        Mass of the particle, MeV.
    """

    def __init__(self, mass: float) -> None:
        self._energy = np.geomspace(0.05, 1e6, 1200)
        slowness = 1 / heavy_loss(self._energy, mass)
        steps = np.diff(self._energy) * 0.5 * (slowness[1:] + slowness[:-1])
        self._range = np.concatenate([[0.0], np.cumsum(steps)]) + self._energy[0] * slowness[0]

    def range_mm(self, energy: Array | float) -> Array:
        """Give the range for an energy."""
        return np.asarray(np.interp(energy, self._energy, self._range, left=0.0))

    def energy(self, range_mm: Array | float) -> Array:
        """Give the energy for a residual range."""
        return np.asarray(np.interp(range_mm, self._range, self._energy))


@cache
def range_table(mass: float) -> RangeTable:
    """Give the range table for a mass in MeV."""
    return RangeTable(mass)


@cache
def _electron_tables() -> tuple[Array, Array, Array]:
    energy = np.geomspace(0.01, 1e5, 800)
    tau = energy / ELECTRON_MASS
    gamma = 1 + tau
    beta2 = 1 - 1 / gamma**2
    # Berger and Seltzer, as in the Review of Particle Physics for electrons (Møller).
    moller = (1 - beta2) + (1 - (2 * tau + 1) * np.log(2)) / gamma**2 + ((tau / gamma) ** 2) / 8
    logarithm = np.log(tau**2 * (tau + 2) / 2 / (_EXCITATION / ELECTRON_MASS) ** 2)
    loss = _K / 2 / beta2 * (logarithm + moller - _density_effect(np.sqrt(gamma**2 - 1)))
    slowness = 1 / loss
    steps = np.diff(energy) * 0.5 * (slowness[1:] + slowness[:-1])
    path = np.concatenate([[0.0], np.cumsum(steps)]) + energy[0] * slowness[0]
    return np.log(energy), loss, path


def electron_loss(energy: Array) -> Array:
    """Give the mean collision loss of electrons, MeV/mm."""
    log_energy, loss, _ = _electron_tables()
    return np.asarray(np.interp(np.log(energy), log_energy, loss))


def electron_range(energy: Array) -> Array:
    """Give the path of electrons that only ionise, mm."""
    log_energy, _, path = _electron_tables()
    return np.asarray(np.interp(np.log(energy), log_energy, path))


def highland_angle(momentum_beta: Array, step_mm: Array | float) -> Array:
    """Give the width of multiple scattering in one projection, radians.

    Parameters
    ----------
    momentum_beta
        Momentum times velocity, MeV.
    step_mm
        Path.
    """
    depth = np.asarray(step_mm) / RADIATION_LENGTH_MM
    angle: Array = 13.6 / momentum_beta * np.sqrt(depth) * (1 + 0.038 * np.log(np.maximum(depth, 1e-3)))
    return angle


def photon_attenuation(energy: Array) -> tuple[Array, Array, Array]:
    """Give the attenuation of photons by pair production, Compton scattering and absorption, each per mm."""
    ratio = energy / ELECTRON_MASS
    twice = 1 + 2 * ratio
    log_twice = np.log(twice)
    klein_nishina = (
        2
        * np.pi
        * _CLASSICAL_RADIUS_MM**2
        * (
            (1 + ratio) / ratio**2 * (2 * (1 + ratio) / twice - log_twice / ratio)
            + log_twice / (2 * ratio)
            - (1 + 3 * ratio) / twice**2
        )
    )
    compton = klein_nishina * _ELECTRONS_PER_MM3
    pair = 7 / 9 / RADIATION_LENGTH_MM * np.interp(np.log(energy), np.log(_PAIR_ENERGY), _PAIR_SHARE)
    absorption = 0.016 * (0.1 / energy) ** 3 * 0.1  # photoelectric effect, 0.016 per cm at 100 keV
    return pair, compton, absorption


def compton_energy(energy: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Sample Compton scattering.

    Returns
    -------
    Energy of the scattered photon and cosine of its angle, float64 as `energy`.
    """
    ratio = energy / ELECTRON_MASS
    least = 1 / (1 + 2 * ratio)
    share = np.ones_like(energy)
    cosine = np.ones_like(energy)
    left = np.arange(len(energy))
    while len(left):
        low = least[left]
        fraction = low + (1 - low) * rng.random(len(left))
        angle = 1 - (1 / fraction - 1) / ratio[left]
        density = fraction + 1 / fraction - 1 + angle**2  # Klein-Nishina over the fraction, up to a factor
        accepted = rng.random(len(left)) * (low + 1 / low) <= density
        share[left[accepted]], cosine[left[accepted]] = fraction[accepted], angle[accepted]
        left = left[~accepted]
    return energy * share, np.clip(cosine, -1, 1)


def collected_electrons(energy: Array, path_mm: Array, field_kv_cm: float = 0.4867) -> Array:
    """Give the ionisation electrons that escape recombination, thousands.

    Parameters
    ----------
    energy, path_mm
        Energy deposited along a path.
    """
    density = energy / np.maximum(path_mm, 1e-6) * 10  # MeV/cm
    strength = 0.212 / (field_kv_cm * DENSITY)
    survival = np.log(0.93 + strength * density) / np.maximum(strength * density, 1e-9)
    electrons: Array = energy / 23.6e-6 * np.clip(survival, 0, 1) / 1000
    return electrons
