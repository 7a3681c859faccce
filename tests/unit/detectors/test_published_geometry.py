"""The shipped tables against the published geometry files, wire by wire."""

from __future__ import annotations

import bz2
import json
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from protosonic.detectors import load_detector

pytestmark = pytest.mark.realdata

GEOMETRY = {
    "protodune-sp": "protodune-wires-larsoft-v4",
    "protodune-hd": "protodunehd-wires-larsoft-v1",
    "dune10kt-1x2x6": "dune10kt-1x2x6-wires-larsoft-v1",
    "protodune-vd-v1": "protodunevd-wires-larsoft-v1",
}


@dataclass(frozen=True)
class Plane:
    """One plane of the geometry file, in the order of its wires."""

    channels: list[int]
    segments: list[int]
    centre: tuple[float, float, float]


@cache
def published(folder: Path, detector: str) -> dict[tuple[int, int, int], Plane]:
    """(anode, face, plane) → wires."""
    store = json.loads(
        bz2.decompress((folder / "wire-geometry" / f"{GEOMETRY[detector]}.json.bz2").read_bytes())
    )["Store"]
    planes = {}
    for anode in (entry["Anode"] for entry in store["anodes"]):
        for face in (store["faces"][index]["Face"] for index in anode["faces"]):
            for plane in (store["planes"][index]["Plane"] for index in face["planes"]):
                wires = [store["wires"][index]["Wire"] for index in plane["wires"]]
                ends = [store["points"][wire[end]]["Point"] for wire in wires for end in ("tail", "head")]
                planes[anode["ident"], face["ident"], plane["ident"]] = Plane(
                    [wire["channel"] for wire in wires],
                    [wire["segment"] for wire in wires],
                    tuple(sum(point[axis] for point in ends) / len(ends) for axis in "xyz"),
                )
    return planes


@pytest.mark.parametrize("detector", ["protodune-sp", "protodune-hd", "dune10kt-1x2x6"])
def test_every_wire_of_an_apa_has_the_published_channel(realdata: Path, detector: str) -> None:
    planes = published(realdata, detector)
    tables = load_detector(detector).tables
    assert {(2 * anode + 1 - face, plane) for anode, face, plane in planes} == set(tables)
    for (anode, face, plane), wires in planes.items():
        assert tables[2 * anode + 1 - face, plane].tolist() == wires.channels


@pytest.mark.parametrize("detector", ["protodune-sp", "protodune-hd", "dune10kt-1x2x6"])
def test_the_tables_have_the_published_number_of_wires_per_segment(realdata: Path, detector: str) -> None:
    last = {"dune10kt-1x2x6": (349, 348)}.get(detector, (348, 348))
    for (_, _, plane), wires in published(realdata, detector).items():
        segments = Counter(wires.segments)
        assert segments == ({0: 400, 1: 400, 2: last[plane]} if plane < 2 else {0: 480})


def test_every_strip_of_the_vertical_drift_has_the_published_channel(realdata: Path) -> None:
    planes = published(realdata, "protodune-vd-v1")
    tables = load_detector("protodune-vd-v1").tables
    collection = {(anode, face): wires.centre for (anode, face, plane), wires in planes.items() if plane == 2}

    def larsoft_order(tpc: tuple[int, int]) -> tuple[float, ...]:
        x, y, z = collection[tpc]
        return round(x), np.sign(y), round(z), y

    order = sorted(collection, key=larsoft_order)
    assert {(tpc, plane) for tpc in range(16) for plane in range(3)} == set(tables)
    for tpc, (anode, face) in enumerate(order):
        for plane in range(3):
            assert tables[tpc, plane].tolist() == planes[anode, face, plane].channels
