"""The particles of an event while it is made, and the charge that they leave."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Self

import numpy as np

from protosonic.events.truth import PARTICLE_FIELDS, Particles

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["EM", "MICHEL", "NONE", "TRACK", "Depositions", "ParticleList", "random_directions", "turn"]

TRACK, EM, NONE, MICHEL = range(4)
"""Indices into :attr:`protosonic.events.truth.HitTruth.LABELS`."""


class ParticleList:
    """Collects the rows of :class:`protosonic.events.truth.Particles`."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, ...]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(
        self,
        pdg: int,
        parent: int,
        label: int,
        energy: float,
        position: NDArray[np.float64],
        direction: NDArray[np.float64],
        tick: float,
    ) -> int:
        """Add a particle; returns its row."""
        self._rows.append((pdg, parent, label, energy, *position.tolist(), *direction.tolist(), tick))
        return len(self._rows) - 1

    def build(self) -> Particles:
        """Give the table."""
        columns = np.array(self._rows, np.float64).reshape(-1, len(PARTICLE_FIELDS)).T
        return Particles(
            **{
                name: column.astype(dtype)
                for (name, dtype), column in zip(PARTICLE_FIELDS.items(), columns, strict=True)
            }
        )


@dataclass(frozen=True)
class Depositions:
    """Energy left along short steps.

    Attributes
    ----------
    position
        float64 [steps, 3], mm.
    tick
        float64 [steps]: time in readout ticks, without drift.
    energy, path
        float64 [steps]: MeV and mm.
    label, particle
        int8 and int32 [steps]: class and row of the particle.
    """

    position: NDArray[np.float64]
    tick: NDArray[np.float64]
    energy: NDArray[np.float64]
    path: NDArray[np.float64]
    label: NDArray[np.int8]
    particle: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.tick)

    def select(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Self:
        """Give some of the steps."""
        return type(self)(**{field.name: getattr(self, field.name)[which] for field in fields(self)})

    @classmethod
    def empty(cls) -> Self:
        """Give no steps."""
        nothing = np.empty(0)
        return cls(np.empty((0, 3)), nothing, nothing, nothing, np.empty(0, np.int8), np.empty(0, np.int32))

    @classmethod
    def concatenate(cls, parts: Iterable[Self]) -> Self:
        """Join steps in order."""
        parts = [cls.empty(), *parts]
        return cls(
            **{
                field.name: np.concatenate([getattr(part, field.name) for part in parts])
                for field in fields(cls)
            }
        )


def random_directions(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Give unit vectors of all directions alike, float64 [n, 3]."""
    cosine = rng.uniform(-1, 1, n)
    azimuth = rng.uniform(0, 2 * np.pi, n)
    sine = np.sqrt(1 - cosine**2)
    return np.stack([sine * np.cos(azimuth), cosine, sine * np.sin(azimuth)], axis=1)


def turn(
    direction: NDArray[np.float64], cosine: NDArray[np.float64], azimuth: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Turn unit vectors by angles.

    Parameters
    ----------
    direction
        float64 [n, 3], unit vectors.
    cosine
        float64 [n]: cosine of the angle to the old direction.
    azimuth
        float64 [n]: angle around the old direction, radians.

    Returns
    -------
    float64 [n, 3], unit vectors.
    """
    # The axis that is farthest from the direction never is parallel to it.
    helper = np.zeros_like(direction)
    helper[np.arange(len(direction)), np.abs(direction).argmin(axis=1)] = 1.0
    one = np.cross(direction, helper)
    one /= np.linalg.norm(one, axis=1, keepdims=True)
    other = np.cross(direction, one)
    sine = np.sqrt(np.clip(1 - cosine**2, 0, None))
    turned = (
        direction * cosine[:, None]
        + one * (sine * np.cos(azimuth))[:, None]
        + other * (sine * np.sin(azimuth))[:, None]
    )
    unit: NDArray[np.float64] = turned / np.linalg.norm(turned, axis=1, keepdims=True)
    return unit
