"""Drift volumes of horizontal-drift detectors: where a point drifts to, and which wires see it.

The frame is that of LArSoft and Wire-Cell: x along the drift, y up, z along the beam, millimetres. Positions follow the
``*-wires-larsoft`` geometry files of wire-cell-data: wire 0 of U is at the top, wire 0 of V at the bottom, wire 0 of W at
the lowest z; on the other face of an anode plane assembly the same, seen from the other side (z mirrored).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from protosonic.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from protosonic.detectors.geometry import Detector

__all__ = ["SIMULATED_DETECTORS", "WIRE_ANGLE", "Box", "DriftVolume", "active_box", "drift_volumes"]

SIMULATED_DETECTORS = {
    "protodune-sp": (1, 2, 5, 6, 9, 10),
    "protodune-hd": (1, 2, 5, 6),
    "dune10kt-1x2x6": tuple(range(24)),
}
"""Detector → TPCs with a drift volume; the others of the ProtoDUNEs face the cryostat wall."""

PITCH_MM = (4.669, 4.669, 4.792)
WIRE_ANGLE = np.deg2rad(35.7)
"""Angle of the induction wires to the vertical, radians."""
FACE_LENGTH_MM = 480 * PITCH_MM[2]
"""Width of the active face of an anode plane assembly, along z."""


@dataclass(frozen=True)
class Box:
    """An axis-parallel box in millimetres: two float64 [3] corners."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def contains(self, position: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Say which of the points [..., 3] are inside."""
        inside: NDArray[np.bool_] = np.all((position >= self.low) & (position <= self.high), axis=-1)
        return inside

    def chord(
        self, position: NDArray[np.float64], direction: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give how far along straight lines the box begins and ends, float64 [lines]; end < begin where they miss."""
        with np.errstate(divide="ignore", invalid="ignore"):
            one = (self.low - position) / direction
            other = (self.high - position) / direction
        enter = np.fmax.reduce(np.fmin(one, other), axis=-1)
        leave = np.fmin.reduce(np.fmax(one, other), axis=-1)
        return enter, leave


@dataclass(frozen=True)
class DriftVolume:
    """The liquid argon in front of one face of an anode plane assembly.

    Attributes
    ----------
    tpc, unit
        LArSoft TPC number and index of the readout unit.
    anode_x
        Position of the collection plane, mm.
    box
        The volume.
    mirrored
        Whether wires count from the high-z side.
    """

    tpc: int
    unit: int
    anode_x: float
    box: Box
    mirrored: bool

    def drift_mm(self, position: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give the distance of points [..., 3] to the collection plane, mm."""
        distance: NDArray[np.float64] = np.abs(position[..., 0] - self.anode_x)
        return distance

    @staticmethod
    def pitch_mm(plane: int) -> float:
        """Give the distance of neighbouring wires of a plane, mm."""
        return PITCH_MM[plane]

    def wire_coordinate(self, plane: int, position: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give where points [..., 3] are across the wires of a plane.

        Returns
        -------
        float64 [...]: in pitches; the integer part is the wire.
        """
        y = position[..., 1] - self.box.low[1]
        z = position[..., 2] - self.box.low[2]
        if self.mirrored:
            z = FACE_LENGTH_MM - z
        across = {
            0: z * np.cos(WIRE_ANGLE) + (self.box.high[1] - position[..., 1]) * np.sin(WIRE_ANGLE),
            1: z * np.cos(WIRE_ANGLE) + y * np.sin(WIRE_ANGLE),
            2: z,
        }[plane]
        coordinate: NDArray[np.float64] = across / PITCH_MM[plane]
        return coordinate


class _Layout(NamedTuple):
    """Positions in millimetres: where the collection planes are, where the first face begins, and the steps."""

    anode_x: float
    drift: float
    first_y: tuple[float, ...]
    height: float
    first_z: float
    step_z: float


_LAYOUT = {
    "protodune-sp": _Layout(3594.2, 3574.0, (75.8,), 5988.2, 3.2, 2320.6),
    "protodune-hd": _Layout(3532.0, 3512.0, (75.8,), 5988.2, 2.2, 2320.6),
    "dune10kt-1x2x6": _Layout(30.0, 3600.0, (-5996.0, 15.4), 5984.7, 3.6, 2323.9),
}


def drift_volumes(detector: Detector) -> tuple[DriftVolume, ...]:
    """List the drift volumes of a detector in order of TPC.

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
    layout = _LAYOUT[detector.name]
    volumes = []
    for tpc in SIMULATED_DETECTORS[detector.name]:
        unit = detector.unit_of_tpc(tpc)
        collection = detector.tables[tpc, 2]
        mirrored = bool(collection[0] > collection[-1])
        if len(layout.first_y) == 1:  # two walls of assemblies with the cathode between them
            side = -1 if unit % 2 == 0 else 1
            anode_x, towards = side * layout.anode_x, -side
            y = layout.first_y[0]
        else:  # one wall of assemblies, two high, with a cathode on each side
            towards = -1 if mirrored else 1
            anode_x, y = towards * layout.anode_x, layout.first_y[unit % 2]
        x = sorted((anode_x, anode_x + towards * layout.drift))
        z = layout.first_z + layout.step_z * (unit // 2)
        box = Box(np.array([x[0], y, z]), np.array([x[1], y + layout.height, z + FACE_LENGTH_MM]))
        volumes.append(DriftVolume(tpc, unit, anode_x, box, mirrored))
    return tuple(volumes)


def active_box(detector: Detector) -> Box:
    """Give the smallest box around all drift volumes."""
    volumes = drift_volumes(detector)
    return Box(
        np.min([volume.box.low for volume in volumes], axis=0),
        np.max([volume.box.high for volume in volumes], axis=0),
    )
