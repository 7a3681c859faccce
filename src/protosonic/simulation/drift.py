"""From energy in the argon to charge at the wires."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Self

import numpy as np

from protosonic.simulation.argon import collected_electrons
from protosonic.simulation.volumes import drift_volumes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from protosonic.detectors.geometry import Detector
    from protosonic.simulation.conditions import Conditions
    from protosonic.simulation.particles import Depositions

__all__ = ["WireCharge", "drift_to_wires"]

_SMALLEST_CHARGE = 0.005  # thousand electrons


@dataclass(frozen=True)
class WireCharge:
    """Clouds of electrons that arrive at the wires of one plane each.

    Attributes
    ----------
    unit, tpc, plane
        Index of the readout unit, TPC and plane.
    coordinate
        float32: across the wires, in pitches; the integer part is the wire.
    spread
        float32: sigma across the wires from diffusion, in pitches.
    tick
        float64: time of arrival.
    sigma
        float32: width in ticks from diffusion.
    charge
        float32: thousand electrons.
    label, particle
        Class and row of the particle.
    """

    unit: NDArray[np.int16]
    tpc: NDArray[np.int16]
    plane: NDArray[np.int8]
    coordinate: NDArray[np.float32]
    spread: NDArray[np.float32]
    tick: NDArray[np.float64]
    sigma: NDArray[np.float32]
    charge: NDArray[np.float32]
    label: NDArray[np.int8]
    particle: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.tick)

    def select(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Self:
        """Give some of the clouds."""
        return type(self)(**{field.name: getattr(self, field.name)[which] for field in fields(self)})

    @classmethod
    def concatenate(cls, parts: list[Self]) -> Self:
        """Join clouds in order."""
        return cls(
            **{
                field.name: np.concatenate([getattr(part, field.name) for part in parts])
                for field in fields(cls)
            }
        )


def drift_to_wires(depositions: Depositions, detector: Detector, conditions: Conditions) -> WireCharge:
    """Drift the ionisation of an event to the wires of all planes; what the window does not hold is left out."""
    electrons = collected_electrons(depositions.energy, depositions.path)
    parts = []
    for volume in drift_volumes(detector):
        here = np.flatnonzero(volume.box.contains(depositions.position) & (electrons > _SMALLEST_CHARGE))
        position = depositions.position[here]
        drift = volume.drift_mm(position)
        drift_us = drift / conditions.drift_mm_per_us
        tick = depositions.tick[here] + drift_us / detector.tick_us
        in_window = (tick > -20) & (tick < detector.n_ticks + 20)
        here, position, drift_us, tick = (
            here[in_window],
            position[in_window],
            drift_us[in_window],
            tick[in_window],
        )
        charge = electrons[here] * np.exp(-drift_us / conditions.lifetime_us)
        # 1 cm²/s is 1e-4 mm²/µs.
        along_mm = np.sqrt(2e-4 * conditions.longitudinal_diffusion * drift_us)
        across_mm = np.sqrt(2e-4 * conditions.transverse_diffusion * drift_us)
        sigma = along_mm / conditions.drift_mm_per_us / detector.tick_us
        n = len(here)
        parts += [
            WireCharge(
                unit=np.full(n, volume.unit, np.int16),
                tpc=np.full(n, volume.tpc, np.int16),
                plane=np.full(n, plane, np.int8),
                coordinate=volume.wire_coordinate(plane, position).astype(np.float32),
                spread=(across_mm / volume.pitch_mm(plane)).astype(np.float32),
                tick=tick,
                sigma=sigma.astype(np.float32),
                charge=(charge * conditions.charge_scale[plane]).astype(np.float32),
                label=depositions.label[here],
                particle=depositions.particle[here],
            )
            for plane in range(3)
        ]
    return WireCharge.concatenate(parts)
