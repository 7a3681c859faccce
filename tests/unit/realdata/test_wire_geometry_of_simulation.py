"""Places of wires in the simulation against the published geometry files."""

from __future__ import annotations

import bz2
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from protosonic.detectors import load_detector
from protosonic.simulation.volumes import PITCH_MM, DriftVolume, drift_volumes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = pytest.mark.realdata

FILES = {
    "protodune-sp": "protodune-wires-larsoft-v4.json.bz2",
    "protodune-hd": "protodunehd-wires-larsoft-v1.json.bz2",
    "dune10kt-1x2x6": "dune10kt-1x2x6-wires-larsoft-v1.json.bz2",
}


def planes_of(store: dict[str, Any], volume: DriftVolume) -> list[list[tuple[int, NDArray[np.float64]]]]:
    """Channel and middle point of each wire of the three planes of a volume."""
    faces = store["anodes"][volume.unit]["Anode"]["faces"]
    face = store["faces"][faces[1 if volume.mirrored else 0]]["Face"]
    planes = []
    for index in face["planes"]:
        wires = [store["wires"][w]["Wire"] for w in store["planes"][index]["Plane"]["wires"]]
        points = [
            [
                np.array([store["points"][wire[end]]["Point"][axis] for axis in "xyz"])
                for end in ("head", "tail")
            ]
            for wire in wires
        ]
        planes.append(
            [(wire["channel"], 0.5 * (head + tail)) for wire, (head, tail) in zip(wires, points, strict=True)]
        )
    return planes


@pytest.mark.parametrize("name", FILES)
def test_every_wire_is_where_the_geometry_file_has_it(name: str, realdata: Path) -> None:
    store = json.loads(bz2.decompress((realdata / "wire-geometry" / FILES[name]).read_bytes()))["Store"]
    detector = load_detector(name)
    for volume in drift_volumes(detector):
        for plane, wires in enumerate(planes_of(store, volume)):
            table = detector.tables[volume.tpc, plane]
            np.testing.assert_array_equal(table, [channel for channel, _ in wires][: len(table)])
            middle = np.array([point for _, point in wires])
            assert np.abs(middle[:, 0] - volume.anode_x).max() < 12  # the three planes are 5 mm apart
            coordinate = volume.wire_coordinate(plane, middle)
            # Within 1.7 wires (8 mm) of the middle of its cell, all along the plane.
            np.testing.assert_allclose(
                coordinate, np.arange(len(middle)) + 0.5, atol=1.7, err_msg=f"{volume.tpc}/{plane}"
            )
            assert PITCH_MM[plane] == pytest.approx(volume.pitch_mm(plane))
