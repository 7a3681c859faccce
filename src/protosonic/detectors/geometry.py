"""Channel ↔ wire geometry of a LArTPC, as far as hit classification needs it.

A *channel* is one electronics channel (``raw::ChannelID_t``); a *wire* is one wire segment of a plane of a TPC
(``geo::WireID``). On wrapped induction planes one channel is several wires, on both faces of the anode plane assembly.
A *readout unit* is an APA (horizontal drift) or half a charge readout plane (vertical drift): the TPCs that share
channels, and for each plane the contiguous range of channels that they share.

The tables of ProtoDUNE-SP, -HD, -VD (``protodune-vd-v1``) and DUNE FD 1x2x6 follow the ``*-wires-larsoft`` geometry
files of wire-cell-data: wire *i* of a plane is the *i*-th wire listed there. TPC numbers are those of LArSoft.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["CRYOSTAT", "PLANE_NAMES", "ChannelPlace", "Detector", "ReadoutUnit", "WireID"]

PLANE_NAMES = ("U", "V", "W")
COLLECTION_PLANE = 2
CRYOSTAT = 0
"""All detectors here have one cryostat."""


class WireID(NamedTuple):
    """A wire segment, as ``geo::WireID`` names it (the cryostat is 0)."""

    tpc: int
    plane: int
    wire: int


class ChannelPlace(NamedTuple):
    """Where channels stand when a file gives only channels; five arrays of one element per channel."""

    tpc: NDArray[np.int16]
    plane: NDArray[np.int8]
    wire: NDArray[np.int32]
    in_wire_space: NDArray[np.bool_]
    unit: NDArray[np.int16]


@dataclass(frozen=True)
class ReadoutUnit:
    """TPCs that share channels: an APA, or half a charge readout plane.

    Attributes
    ----------
    tpcs
        TPC numbers, ascending.
    channels
        Per plane the first channel and the number of channels.
    """

    tpcs: tuple[int, ...]
    channels: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Detector:
    """The description of one detector.

    Attributes
    ----------
    name
        Name in configuration and files.
    n_ticks
        Nominal readout window in ticks (LArSoft ``NumberTimeSamples``); an event may state its own.
    tick_us
        Length of a tick in microseconds.
    pitch_mm
        Distance of neighbouring wires of each plane in millimetres.
    units
        Readout units in order of their channels.
    tables
        ``(tpc, plane)`` → channel of each wire, int32 [wires]; a plane that is missing has no published wire table.
    other_numberings
        Detectors that are this one with another channel numbering (see :meth:`channel_fit`).
    source
        Where the table comes from.
    """

    name: str
    n_ticks: int
    tick_us: float
    pitch_mm: tuple[float, ...]
    units: tuple[ReadoutUnit, ...]
    tables: Mapping[tuple[int, int], NDArray[np.int32]]
    other_numberings: tuple[str, ...]
    source: str

    @classmethod
    def from_json(cls, text: str) -> Detector:
        """Read a detector file; wire tables are runs of ``[first channel, count, step]``."""
        data = json.loads(text)
        tables = {}
        for key, runs in data["wires"].items():
            tpc, plane = map(int, key.split("/"))
            table = np.concatenate(
                [np.arange(first, first + count * step, step, dtype=np.int32) for first, count, step in runs]
            )
            table.flags.writeable = False
            tables[tpc, plane] = table
        return cls(
            name=data["name"],
            n_ticks=data["n_ticks"],
            tick_us=data["tick_us"],
            pitch_mm=tuple(data["pitch_mm"]),
            units=tuple(
                ReadoutUnit(tuple(unit["tpcs"]), tuple((first, count) for first, count in unit["channels"]))
                for unit in data["units"]
            ),
            tables=tables,
            other_numberings=tuple(data.get("other_numberings", ())),
            source=data["source"],
        )

    @cached_property
    def n_channels(self) -> int:
        """Number of channels; channels count from 0."""
        return max(first + count for unit in self.units for first, count in unit.channels)

    @cached_property
    def n_planes(self) -> int:
        """Number of planes of a TPC."""
        return len(self.units[0].channels)

    def n_wires(self, tpc: int, plane: int) -> int:
        """Give the number of wires of a plane (``WireReadoutGeom::Nwires``)."""
        return len(self.tables[tpc, plane])

    def unit_of_tpc(self, tpc: int) -> int:
        """Give the index of the readout unit that a TPC belongs to."""
        return next(index for index, unit in enumerate(self.units) if tpc in unit.tpcs)

    def wires_of(self, channel: int) -> list[WireID]:
        """List all wires of a channel (``ChannelToWire``), ascending."""
        return [
            WireID(tpc, plane, int(wire))
            for (tpc, plane), table in sorted(self.tables.items())
            for wire in np.flatnonzero(table == channel)
        ]

    @cached_property
    def _wire_counts(self) -> NDArray[np.intp]:
        counts = np.zeros(self.n_channels, dtype=np.intp)
        for table in self.tables.values():
            np.add.at(counts, table, 1)
        return counts

    @cached_property
    def planes_in_wire_space(self) -> tuple[bool, ...]:
        """Per plane: whether each of its channels is exactly one wire, so that a channel alone names the wire."""
        return tuple(
            all(np.all(self._wire_counts[first : first + count] == 1) for first, count in ranges)
            for ranges in zip(*(unit.channels for unit in self.units), strict=True)
        )

    @cached_property
    def channel_places(self) -> ChannelPlace:
        """Give the place of every channel, for inputs that know only channels.

        Where a channel is one wire, that wire. On wrapped planes, *channel space*: ``wire`` counts channels from the
        first of the plane in its readout unit, and ``tpc`` is the lowest TPC of the unit.

        Returns
        -------
        Arrays of ``n_channels`` elements, indexed by channel.
        """
        n = self.n_channels
        tpc, plane = np.full(n, -1, np.int16), np.full(n, -1, np.int8)
        wire, unit = np.full(n, -1, np.int32), np.full(n, -1, np.int16)
        for index, readout in enumerate(self.units):
            for p, (first, count) in enumerate(readout.channels):
                part = slice(first, first + count)
                tpc[part], plane[part], unit[part] = readout.tpcs[0], p, index
                wire[part] = np.arange(count)
        in_wire_space = np.zeros(n, dtype=bool)
        for (t, p), table in self.tables.items():
            if self.planes_in_wire_space[p]:
                tpc[table], wire[table], in_wire_space[table] = t, np.arange(len(table)), True
        return ChannelPlace(tpc, plane, wire, in_wire_space, unit)

    def channel_fit(self, channels: NDArray[np.int32]) -> int:
        """Count how many ends of runs of consecutive channels are ends of planes.

        A file that holds whole planes of this numbering has many; with a numbering of other plane sizes it has few.
        Returns -1 where a channel does not exist.
        """
        if len(channels) and (channels.min() < 0 or channels.max() >= self.n_channels):
            return -1
        ordered = np.unique(channels)
        breaks = np.flatnonzero(np.diff(ordered) != 1)
        run_starts = ordered[np.concatenate(([0], breaks + 1))] if len(ordered) else ordered
        run_ends = ordered[np.concatenate((breaks, [-1]))] if len(ordered) else ordered
        starts = {first for unit in self.units for first, _ in unit.channels}
        ends = {first + count - 1 for unit in self.units for first, count in unit.channels}
        return len(starts & set(run_starts.tolist())) + len(ends & set(run_ends.tolist()))
