"""Hits of known class, of one or many events."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from protosonic.events.truth import HitTruth

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from protosonic.events.truth import Particles

__all__ = ["Sample", "angle_to_drift", "labelled_hits"]


@dataclass(frozen=True)
class Sample:
    """Hits, or clusters of hits, whose class is known, as columns of equal length.

    Attributes
    ----------
    event
        int32: counts events from 0.
    tpc, plane
        int16, int8.
    charge
        float32: integral, ``recob::Wire`` units × ticks.
    in_fiducial
        bool.
    label
        int8: index into :attr:`HitTruth.LABELS`.
    particle
        int32: row of the event's particles; −1 where not known.
    angle
        float32, degrees: of the particle to the drift direction, 0 to 90; NaN where not known.
    """

    event: NDArray[np.int32]
    tpc: NDArray[np.int16]
    plane: NDArray[np.int8]
    charge: NDArray[np.float32]
    in_fiducial: NDArray[np.bool_]
    label: NDArray[np.int8]
    particle: NDArray[np.int32]
    angle: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.event)

    @property
    def n_events(self) -> int:
        """One more than the largest event index."""
        return int(self.event.max()) + 1 if len(self) else 0

    def select(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Self:
        """Give some of the rows, by mask or index."""
        return type(self)(**{column.name: getattr(self, column.name)[which] for column in fields(self)})

    @classmethod
    def concatenate(cls, parts: Sequence[Sample]) -> Sample:
        """Join the samples of several events."""
        return cls(
            **{
                column.name: np.concatenate([getattr(part, column.name) for part in parts])
                for column in fields(cls)
            }
        )

    def digest(self) -> str:
        """Name the content: equal for the same hits with the same truth, whatever scored them."""
        digest = hashlib.sha256()
        for column in (self.event, self.tpc, self.plane, self.charge, self.label, self.particle):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()[:16]


def labelled_hits(
    event: int,
    hits: Mapping[str, NDArray[Any]],
    truth: HitTruth,
    particles: Particles | None,
) -> tuple[Sample, NDArray[np.bool_]]:
    """Give the hits of an event whose class is known.

    Parameters
    ----------
    event
        Index of the event in the sample.
    hits
        Columns ``tpc``, ``plane``, ``integral`` and ``in_fiducial``.
    truth
        Of the same hits.
    particles
        What ``truth.particle`` refers to, where it is known.

    Returns
    -------
    The hits of known class, and which they are, bool [hits].
    """
    known = truth.label != HitTruth.UNKNOWN
    particle = truth.particle[known]
    angle = np.full(len(particle), np.nan, np.float32)
    if particles is not None and len(particles):
        has_particle = (particle >= 0) & (particle < len(particles))
        angle[has_particle] = angle_to_drift(particles)[particle[has_particle]]
    sample = Sample(
        event=np.full(len(particle), event, np.int32),
        tpc=hits["tpc"][known].astype(np.int16),
        plane=hits["plane"][known].astype(np.int8),
        charge=hits["integral"][known].astype(np.float32),
        in_fiducial=hits["in_fiducial"][known].astype(bool),
        label=truth.label[known].astype(np.int8),
        particle=particle.astype(np.int32),
        angle=angle,
    )
    return sample, known


def angle_to_drift(particles: Particles) -> NDArray[np.float32]:
    """Angle of each particle's start to the drift direction in degrees, 0 to 90, float32 [particles]."""
    along = np.abs(particles.direction_x.astype(np.float64)).clip(0, 1)
    angle: NDArray[np.float32] = np.degrees(np.arccos(along)).astype(np.float32)
    return angle
