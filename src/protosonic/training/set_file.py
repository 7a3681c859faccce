"""The training set file: sparse plane images and places on them whose class is known.

It holds images, not patches: a patch is cut when it is used, so that it can be shifted, turned and disturbed, and one
pixel is stored once however many hits see it. ``docs/training.md`` describes the file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import h5py
import numpy as np

from protosonic.errors import DataError
from protosonic.events.truth import HitTruth
from protosonic.hdf5_output import publish_hdf5

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["EMPTY", "EVENT_ID", "VALUE_STEP", "ImageTable", "PointTable", "TrainingSet"]

FORMAT = "protosonic-training-set"
FORMAT_VERSION = 1
VALUE_STEP = 1 / 32
"""Network input of one count of a stored pixel: far below the noise, and 16 bits hold the whole range."""
EMPTY = 1
"""Value of :attr:`PointTable.kind` for a place without charge; hits have 0."""
EVENT_ID = ("run", "subrun", "event")


@dataclass(frozen=True)
class ImageTable:
    """The images, as columns of one element per image.

    Attributes
    ----------
    event
        int32: row of :attr:`TrainingSet.events`.
    cryostat, tpc, plane
        int16: as in LArSoft.
    n_wires, n_columns
        int32: shape.
    n_pixels
        int32: stored pixels.
    """

    event: NDArray[np.int32]
    cryostat: NDArray[np.int16]
    tpc: NDArray[np.int16]
    plane: NDArray[np.int16]
    n_wires: NDArray[np.int32]
    n_columns: NDArray[np.int32]
    n_pixels: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.event)


@dataclass(frozen=True)
class PointTable:
    """Places whose class is known, as columns of one element per place.

    Attributes
    ----------
    image
        int32: row of the image table.
    row, column
        int32: wire and drift bin, inside the image.
    label
        int8: index into :attr:`protosonic.events.truth.HitTruth.LABELS`; never unknown.
    kind
        int8: 0 for a hit, :data:`EMPTY` for a place without charge.
    fraction
        float32: share of the hit's charge that has its class; NaN where not known.
    charge
        float32: integral of the hit, ``recob::Wire`` units × ticks; 0 for places without charge.
    """

    image: NDArray[np.int32]
    row: NDArray[np.int32]
    column: NDArray[np.int32]
    label: NDArray[np.int8]
    kind: NDArray[np.int8]
    fraction: NDArray[np.float32]
    charge: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.image)

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Join tables in order."""
        types = {"label": np.int8, "kind": np.int8, "fraction": np.float32, "charge": np.float32}
        return cls(
            **{
                field.name: np.concatenate(
                    [
                        np.empty(0, types.get(field.name, np.int32)),
                        *(getattr(part, field.name) for part in parts),
                    ]
                )
                for field in fields(cls)
            }
        )


@dataclass(frozen=True)
class TrainingSet:
    """Images and places.

    Attributes
    ----------
    events
        int64 [events, 3]: run, subrun and event number.
    images
        The images; those of an event follow each other.
    pixel
        int64 [pixels]: ``row * n_columns + column`` in its image, ascending, image after image.
    value
        int16 [pixels]: network input in units of :data:`VALUE_STEP`.
    points
        The places.
    profile
        The preprocessing constants by name.
    header
        What the set was made from.
    """

    events: NDArray[np.int64]
    images: ImageTable
    pixel: NDArray[np.int64]
    value: NDArray[np.int16]
    points: PointTable
    profile: dict[str, Any]
    header: dict[str, Any]

    @property
    def zero_level(self) -> float:
        """Network input that means no charge."""
        slope = (self.profile["out_max"] - self.profile["out_min"]) / (
            self.profile["adc_max"] - self.profile["adc_min"]
        )
        return float(self.profile["out_min"] - slope * self.profile["adc_min"])

    def counts(self) -> dict[str, int]:
        """Count the places by class, those without charge apart."""
        points = self.points
        counts = {
            name: int(((points.label == index) & (points.kind != EMPTY)).sum())
            for index, name in enumerate(HitTruth.LABELS)
        }
        return {**counts, "empty": int((points.kind == EMPTY).sum())}

    def write(self, path: Path) -> None:
        """Write the file; it appears when it is complete."""
        first = np.concatenate([[0], np.cumsum(self.images.n_pixels)])[:-1]
        gap = np.diff(self.pixel, prepend=0)
        starts = first[self.images.n_pixels > 0]
        gap[starts] = self.pixel[starts]
        with publish_hdf5(path) as file:
            file.attrs["format"] = FORMAT
            file.attrs["format_version"] = FORMAT_VERSION
            file.attrs["profile"] = json.dumps(self.profile, sort_keys=True)
            file.attrs["header"] = json.dumps(self.header, sort_keys=True)
            _store(file, "events", self.events)
            _store(file, "pixels/gap", gap.astype(np.uint32))
            _store(file, "pixels/value", self.value)
            for name, table in (("images", self.images), ("points", self.points)):
                for field in fields(table):
                    _store(file, f"{name}/{field.name}", getattr(table, field.name))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file.

        Raises
        ------
        DataError
            Code ``unsupported-format`` or ``corrupt``.
        """
        try:
            with h5py.File(path, "r", locking=False) as file:
                found = (file.attrs.get("format"), file.attrs.get("format_version"))
                if found != (FORMAT, FORMAT_VERSION):
                    raise DataError(
                        "this is not a training set that this version can read",
                        code="unsupported-format",
                        file=path,
                        expected=f"{FORMAT} {FORMAT_VERSION}",
                        found=found,
                        hint="Make it with protosonic model sample",
                    )
                tables = {
                    name: {field.name: file[f"{name}/{field.name}"][()] for field in fields(table)}
                    for name, table in (("images", ImageTable), ("points", PointTable))
                }
                images = ImageTable(**tables["images"])
                gap, value = file["pixels/gap"][()], file["pixels/value"][()]
                events = file["events"][()]
                profile, header = json.loads(file.attrs["profile"]), json.loads(file.attrs["header"])
        except (OSError, KeyError) as error:
            raise DataError(f"the training set cannot be read: {error}", code="corrupt", file=path) from error
        result = cls(
            events, images, _pixels(gap, images), value, PointTable(**tables["points"]), profile, header
        )
        result._check(path)
        return result

    def _check(self, path: Path) -> None:
        images, points = self.images, self.points
        sound = (
            len(self.pixel) == len(self.value) == images.n_pixels.sum()
            and _within(images.event, len(self.events))
            and _within(points.image, len(images))
            and _within(points.label, len(HitTruth.LABELS))
            and _within(points.row, images.n_wires[points.image])
            and _within(points.column, images.n_columns[points.image])
        )
        size = np.repeat(images.n_wires.astype(np.int64) * images.n_columns, images.n_pixels)
        if not sound or not _within(self.pixel, size):
            raise DataError("the tables of the training set contradict each other", code="corrupt", file=path)

    @classmethod
    def joined(cls, sets: Sequence[TrainingSet]) -> TrainingSet:
        """Put sets one after the other.

        Raises
        ------
        DataError
            Code ``wrong-profile``: they were preprocessed in different ways.
        """
        if len(sets) == 1:
            return sets[0]
        if any(each.profile != sets[0].profile for each in sets):
            raise DataError(
                "training sets of different preprocessing cannot be joined",
                code="wrong-profile",
                found=", ".join(sorted({each.profile["name"] for each in sets})),
            )
        first_event = np.cumsum([0, *(len(each.events) for each in sets)])
        first_image = np.cumsum([0, *(len(each.images) for each in sets)])

        def table(name: str, shifted: str, first: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
            columns: dict[str, NDArray[Any]] = {}
            for field in fields(getattr(sets[0], name)):
                parts = [getattr(getattr(each, name), field.name) for each in sets]
                if field.name == shifted:
                    parts = [
                        (part + start).astype(np.int32) for part, start in zip(parts, first, strict=False)
                    ]
                columns[field.name] = np.concatenate(parts)
            return columns

        return cls(
            np.concatenate([each.events for each in sets]),
            ImageTable(**table("images", "event", first_event)),
            np.concatenate([each.pixel for each in sets]),
            np.concatenate([each.value for each in sets]),
            PointTable(**table("points", "image", first_image)),
            sets[0].profile,
            {"sets": [each.header for each in sets]},
        )


def _pixels(gap: NDArray[np.uint32], images: ImageTable) -> NDArray[np.int64]:
    """Add the gaps up within each image."""
    running = np.cumsum(gap, dtype=np.int64)
    if len(gap) != images.n_pixels.sum():
        return running  # the check of the set says so
    before = np.concatenate([[0], running])[np.cumsum(images.n_pixels) - images.n_pixels]
    pixel: NDArray[np.int64] = running - np.repeat(before, images.n_pixels)
    return pixel


def _within(numbers: NDArray[Any], end: Any) -> bool:
    return bool(((numbers >= 0) & (numbers < end)).all())


def _store(file: h5py.File, name: str, values: NDArray[Any]) -> None:
    # gzip, which every installation of HDF5 reads; the shuffled high bytes are nearly all zero.
    packing = {"compression": "gzip", "compression_opts": 6, "shuffle": True} if len(values) else {}
    file.create_dataset(name, data=values, **packing)
