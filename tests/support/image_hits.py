"""Plane images with hits for tests, from random numbers and from real files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from protosonic.events.formats import open_events
from protosonic.events.model import Event
from protosonic.events.reader import ReaderOptions
from protosonic.images.patches import PatchCutter
from protosonic.images.plane_image import PlaneImage, PlaneKey
from protosonic.images.profiles import Profile, load_profile
from protosonic.images.unit import prepare_event
from protosonic.inference.image_payload import ImageHits, PlaneHits

ZERO = load_profile("protodune-hd")
UNEVEN = Profile("uneven", adc_min=-5.0, adc_max=15.0, out_min=0.0, out_max=1.0)
"""Its zero level is 0.25."""

REAL_FILES = {
    "hd": (
        "wire-cell-toolkit/protodunehd-sp-frames-anode1.tar.bz2",
        ReaderOptions(detector="protodune-hd", charge_scale=1e-3, run=27409),
    ),
    "vd": (
        "wire-cell-toolkit/protodunevd-sp-frames-anode0.tar.bz2",
        ReaderOptions(detector="protodune-vd", charge_scale=1e-3, run=39324),
    ),
    "vd-simulated": ("protodunevd-sim/g4-rec.h5", ReaderOptions(detector="protodune-vd", charge_scale=0.2)),
    "fd-workspace": (
        "dune10kt-1x2x6/full-workspace-g4-rec.h5",
        ReaderOptions(detector="dune10kt-1x2x6", charge_scale=0.2),
    ),
    **{
        f"fd-anode{anode}": (
            f"dune10kt-1x2x6/pixeldata-anode{anode}.h5",
            ReaderOptions(detector="dune10kt-1x2x6", charge_scale=0.2, tag="rebinned", ticks_per_bin=4),
        )
        for anode in range(1, 6)
    },
}


class Plane(NamedTuple):
    """A plane image and its hits."""

    image: PlaneImage
    wire: NDArray[np.int32]
    drift_bin: NDArray[np.int32]
    is_blank: NDArray[np.bool_] | None = None

    @property
    def hits(self) -> PlaneHits:
        return PlaneHits(self.image, self.wire, self.drift_bin, self.is_blank)


def gather(planes: Sequence[Plane], profile: Profile = ZERO) -> ImageHits:
    return ImageHits.gather([plane.hits for plane in planes], profile)


def cut(planes: Sequence[Plane], profile: Profile = ZERO) -> NDArray[np.float32]:
    """The patches of all hits as they are cut for the patch payload."""
    patches = [np.empty((0, 48, 48), np.float32)]
    for plane in planes:
        patch = PatchCutter(plane.image, profile).cut(
            plane.wire, plane.drift_bin.astype(np.int64), plane.drift_bin.astype(np.float32)
        )
        if plane.is_blank is not None:
            patch[plane.is_blank] = 0.0
        patches.append(patch)
    return np.concatenate(patches)


def sparse(dense: NDArray[np.float32], background: float = 0.0) -> PlaneImage:
    """The sparse form of an image."""
    pixel = np.flatnonzero(dense.ravel() != np.float32(background))
    return PlaneImage(PlaneKey(0, 0, 0), *dense.shape, pixel, dense.ravel()[pixel])


def random_plane(seed: int, shape: tuple[int, int], n_hits: int, profile: Profile = ZERO) -> Plane:
    """A plane with tracks, single pixels and hits everywhere in it and just outside of the readout."""
    random = np.random.default_rng(seed)
    n_wires, n_columns = shape
    image = np.full(shape, profile.zero_level, np.float32)
    for start in random.integers(0, max(n_columns, 1), n_wires // 3) if n_columns else ():
        wire = random.integers(0, n_wires)
        length = random.integers(1, 12)
        image[wire, start : start + length] = random.uniform(
            -5, 15, image[wire, start : start + length].shape
        )
    wire = random.integers(0, n_wires, n_hits).astype(np.int32)
    drift_bin = random.integers(-30, n_columns + 30, n_hits).astype(np.int32)
    far = random.random(n_hits) < 0.02
    drift_bin[far] = random.choice([-(2**30), 2**30], far.sum())
    return Plane(sparse(image, profile.zero_level), wire, drift_bin, random.random(n_hits) < 0.05)


@st.composite
def planes_of(draw: st.DrawFn, profile: Profile) -> list[Plane]:
    """Up to four planes of any shape with up to 60 hits."""
    return [
        random_plane(
            draw(st.integers(0, 2**32)),
            (draw(st.integers(1, 300)), draw(st.integers(0, 400))),
            draw(st.integers(0, 60)),
            profile,
        )
        for _ in range(draw(st.integers(1, 4)))
    ]


def real_events(folder: Path, name: str) -> Iterator[list[Plane]]:
    """The planes of each event of a real file."""
    path, options = REAL_FILES[name]
    with open_events(folder / path, options) as file:
        for event in file.read():
            assert isinstance(event, Event)
            images = prepare_event(event, ZERO, (0, 1, 2)).images
            yield [Plane(image.image, image.hits["wire"], image.hits["drift_bin"]) for image in images]
