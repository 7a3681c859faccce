"""The unit file: what inference needs of one partition, as HDF5.

It is temporary and private to protosonic: sparse plane images, the hits to classify in the order of the images, and
the events that had to be quarantined. docs/formats.md describes it for those who debug.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, Self

import h5py
import hdf5plugin
import numpy as np

from protosonic.errors import DataError
from protosonic.events.model import HIT_FIELDS, EventId
from protosonic.hdf5_output import publish_hdf5
from protosonic.images.patches import in_fiducial, repeats_previous
from protosonic.images.plane_image import (
    CalibratedCharge,
    PlaneImage,
    PlaneKey,
    drift_bins,
    plane_groups,
    plane_image,
)
from protosonic.images.profiles import Profile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from protosonic.events.model import Event

__all__ = ["UNIT_HIT_FIELDS", "UnitEvent", "UnitImage", "UnitReader", "UnitWriter", "prepare_event"]

UNIT_VERSION = 1
UNIT_HIT_FIELDS: dict[str, type[np.generic]] = {
    "hit": np.int32,
    **HIT_FIELDS,
    "drift_bin": np.int32,
    "in_wire_space": np.bool_,
    "in_fiducial": np.bool_,
    "duplicate_patch": np.bool_,
}
_IMAGE_COLUMNS = ("cryostat", "tpc", "plane", "in_wire_space", "n_wires", "n_columns", "n_pixels", "n_hits")


@dataclass(frozen=True)
class UnitImage:
    """One plane image with the hits to classify on it; `hits` has the columns of :data:`UNIT_HIT_FIELDS`."""

    image: PlaneImage
    hits: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.hits["hit"])


@dataclass(frozen=True)
class UnitEvent:
    """One prepared event: its plane images in ascending order of cryostat, TPC and plane."""

    id: EventId
    entry: int
    images: tuple[UnitImage, ...]

    @property
    def n_hits(self) -> int:
        """Number of hits to classify."""
        return sum(len(image) for image in self.images)


def prepare_event(event: Event, profile: Profile, planes: tuple[int, ...]) -> UnitEvent:
    """Make the plane images of an event and the flags of its hits.

    Parameters
    ----------
    event
        An event that passed :meth:`Event.check`.
    profile
        The preprocessing constants.
    planes
        The planes to classify.

    Raises
    ------
    DataError
        Code ``no-wire-table``: hits are given by wires of a plane whose wire table is not published.
    """
    images = []
    if event.waveforms is not None:
        charge = CalibratedCharge(event, profile)
        previous = None
        for key, members in plane_groups(event.hits, planes).items():
            if key.in_wire_space and (key.tpc, key.plane) not in event.detector.tables:
                raise DataError(
                    f"no wire table of plane {key.plane} of {event.detector.name} is published",
                    code="no-wire-table",
                )
            image = plane_image(charge, event.detector, key, profile)
            hits = event.hits.select(members)
            bins = drift_bins(hits.peak_time, profile)
            repeats, previous = repeats_previous(hits.wire, bins, hits.peak_time, profile, previous)
            columns = {name: getattr(hits, name) for name in HIT_FIELDS}
            n_drift_bins = event.n_ticks // profile.drift_window
            images.append(
                UnitImage(
                    image,
                    {
                        "hit": members.astype(np.int32),
                        **columns,
                        "drift_bin": bins.astype(np.int32),
                        "in_wire_space": hits.in_wire_space,
                        "in_fiducial": in_fiducial(hits.wire, bins, image.n_wires, n_drift_bins),
                        "duplicate_patch": repeats,
                    },
                )
            )
    return UnitEvent(event.id, event.entry, tuple(images))


class UnitWriter:
    """Writes a unit file event by event; it appears when the ``with`` block ends without an error.

    Parameters
    ----------
    path
        The file.
    header
        JSON-serialisable facts for those who read the file (partition, profile, versions).
    """

    def __init__(self, path: Path, profile: Profile, header: Mapping[str, Any]) -> None:
        self._path = path
        self._profile = profile
        self._header = dict(header)
        self._quarantined: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._file = stack.enter_context(publish_hdf5(self._path))
            stack.push(self._finish)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write the head; on the stack, so that nothing is published when this fails."""
        if kind is None:
            attributes = {
                "format": "protosonic-unit",
                "format_version": UNIT_VERSION,
                "profile": json.dumps(self._profile.as_dict()),
                "header": json.dumps(self._header),
                "quarantined": json.dumps(self._quarantined),
            }
            for name, value in attributes.items():
                self._file.attrs[name] = value

    def write(self, event: UnitEvent) -> None:
        """Append an event."""
        group = self._file.create_group(f"events/{event.entry}")
        group.attrs["id"] = np.array(event.id, np.int64)
        images = event.images
        table = [
            (*astuple(i.image.key), i.image.n_wires, i.image.n_columns, len(i.image.pixel), len(i))
            for i in images
        ]
        group.create_dataset("images", data=np.array(table, np.int64).reshape(-1, len(_IMAGE_COLUMNS)))
        if not images:
            return
        self._store(group, "pixel", np.concatenate([i.image.pixel for i in images]).astype(np.uint32))
        self._store(group, "value", np.concatenate([i.image.value for i in images]))
        for name in UNIT_HIT_FIELDS:
            self._store(group, f"hits/{name}", np.concatenate([i.hits[name] for i in images]))

    def quarantine(self, event_id: EventId, entry: int, reason: str) -> None:
        """Record an event that could not be prepared."""
        self._quarantined.append({"id": list(event_id), "entry": entry, "reason": reason})

    @staticmethod
    def _store(group: h5py.Group, name: str, values: NDArray[Any]) -> None:
        # LZ4 with shuffling halves the file and costs next to nothing, where gzip would cost more than the rest.
        group.create_dataset(
            name, data=values, chunks=True if len(values) else None, **(_LZ4 if len(values) else {})
        )


_LZ4 = dict(hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE))


class UnitReader:
    """Reads a unit file event by event; use it as a context manager.

    Attributes
    ----------
    profile
        The preprocessing constants that the images were made with.
    quarantined
        Events that could not be prepared: dictionaries with ``id``, ``entry`` and ``reason``.
    """

    def __init__(self, path: Path) -> None:
        self._file = h5py.File(path, "r", locking=False)
        profile = json.loads(self._file.attrs["profile"])
        self.profile = Profile(**{**profile, "amplitude": tuple(profile["amplitude"])})
        self.header: dict[str, Any] = json.loads(self._file.attrs["header"])
        self.quarantined: list[dict[str, Any]] = json.loads(self._file.attrs["quarantined"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def events(self) -> Iterator[UnitEvent]:
        """Read events in ascending order of run, subrun and event number."""
        groups = self._file.get("events", {})
        order = sorted((group.attrs["id"].tolist(), int(name)) for name, group in groups.items())
        for _, entry in order:
            yield self._read(groups[str(entry)], entry)

    @staticmethod
    def _read(group: h5py.Group, entry: int) -> UnitEvent:
        table = group["images"][()]
        images = []
        if len(table):
            pixel, value = group["pixel"][()].astype(np.int64), group["value"][()]
            hits = {name: group[f"hits/{name}"][()] for name in UNIT_HIT_FIELDS}
            pixel_end, hit_end = np.cumsum(table[:, 6]), np.cumsum(table[:, 7])
            for row, last_pixel, last_hit in zip(table.tolist(), pixel_end, hit_end, strict=True):
                cryostat, tpc, plane, in_wire_space, n_wires, n_columns, n_pixels, n_hits = row
                pixels, members = slice(last_pixel - n_pixels, last_pixel), slice(last_hit - n_hits, last_hit)
                key = PlaneKey(cryostat, tpc, plane, bool(in_wire_space))
                image = PlaneImage(key, n_wires, n_columns, pixel[pixels], value[pixels])
                images.append(UnitImage(image, {name: column[members] for name, column in hits.items()}))
        return UnitEvent(EventId(*group.attrs["id"].tolist()), entry, tuple(images))
