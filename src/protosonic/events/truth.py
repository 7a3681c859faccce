"""What simulated events really are: the class of each hit and the particles behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PARTICLE_FIELDS", "HitTruth", "Particles"]


@dataclass(frozen=True)
class HitTruth:
    """What the hits of an event really are, as columns of one element per hit.

    Attributes
    ----------
    label
        int8: class with most of the hit's charge, index into :attr:`LABELS`, or :attr:`UNKNOWN`.
    particle
        int32: particle with most of the hit's charge, a row of :class:`Particles`; −1 for noise or where not known.
    charge_fraction
        float32: share of the hit's charge that belongs to its class; NaN where not known.
    """

    LABELS: ClassVar = ("track", "em", "none", "michel")
    UNKNOWN: ClassVar = -1

    label: NDArray[np.int8]
    particle: NDArray[np.int32]
    charge_fraction: NDArray[np.float32]

    @classmethod
    def unknown(cls, n_hits: int) -> Self:
        """Give the truth of hits of which nothing is known."""
        return cls.of_labels(np.full(n_hits, cls.UNKNOWN, np.int8))

    @classmethod
    def of_labels(cls, label: NDArray[np.int8]) -> Self:
        """Give the truth of hits of which only the class is known: int8 [hits], indices into :attr:`LABELS`."""
        return cls(label, np.full(len(label), -1, np.int32), np.full(len(label), np.nan, np.float32))


PARTICLE_FIELDS: dict[str, type[np.generic]] = {
    "pdg": np.int32,
    "parent": np.int32,
    "label": np.int8,
    "kinetic_energy": np.float32,
    "start_x": np.float32,
    "start_y": np.float32,
    "start_z": np.float32,
    "direction_x": np.float32,
    "direction_y": np.float32,
    "direction_z": np.float32,
    "tick": np.float32,
}


@dataclass(frozen=True)
class Particles:
    """The particles of a simulated event that deposit charge, as columns of one element per particle.

    Attributes
    ----------
    pdg
        int32: particle number of the PDG.
    parent
        int32: row of the particle that made it, −1 for a primary.
    label
        int8: class of its charge, index into :attr:`HitTruth.LABELS`.
    kinetic_energy
        float32, MeV: at its start.
    start_x, start_y, start_z
        float32, mm: x along the drift, y up, z along the beam.
    direction_x, direction_y, direction_z
        float32: unit vector at its start.
    tick
        float32: when it passes, in ticks of the readout.
    """

    pdg: NDArray[np.int32]
    parent: NDArray[np.int32]
    label: NDArray[np.int8]
    kinetic_energy: NDArray[np.float32]
    start_x: NDArray[np.float32]
    start_y: NDArray[np.float32]
    start_z: NDArray[np.float32]
    direction_x: NDArray[np.float32]
    direction_y: NDArray[np.float32]
    direction_z: NDArray[np.float32]
    tick: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.pdg)

    @classmethod
    def empty(cls) -> Self:
        """Give no particles."""
        return cls(**{name: np.empty(0, dtype) for name, dtype in PARTICLE_FIELDS.items()})
