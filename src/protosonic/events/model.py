"""An event as the rest of protosonic sees it: identity, sparse waveforms and hits.

Field names are those of ``recob::Hit`` and ``recob::Wire``; times are in readout ticks from the start of the window.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from protosonic.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from protosonic.detectors.geometry import Detector
    from protosonic.events.truth import HitTruth, Particles

__all__ = [
    "HIT_FIELDS",
    "MAX_SAMPLES",
    "Event",
    "EventId",
    "Hits",
    "Waveforms",
    "no_waveforms",
]


MAX_SAMPLES = 2**26
"""No event has more samples that are not zero (ProtoDUNE: about 2 million); more is taken for a decompression bomb."""


def no_waveforms() -> DataError:
    """Make the error of an event that has hits but nothing to make an image from."""
    return DataError(
        "the event has hits but no waveforms, so no image can be made",
        code="no-waveforms",
        hint="Write the file with its wire table (numl: WithWire) or as Wire-Cell frames",
    )


class EventId(NamedTuple):
    """Run, subrun and event number; sorts in this order."""

    run: int
    subrun: int
    event: int

    def __str__(self) -> str:
        return f"run {self.run} subrun {self.subrun} event {self.event}"


HIT_FIELDS: dict[str, type[np.generic]] = {
    "channel": np.int32,
    "cryostat": np.int16,
    "tpc": np.int16,
    "plane": np.int8,
    "wire": np.int32,
    "peak_time": np.float32,
    "rms": np.float32,
    "peak_amplitude": np.float32,
    "integral": np.float32,
}


@dataclass(frozen=True)
class Hits:
    """The hit collection of an event, in its order, as columns of equal length.

    Attributes
    ----------
    channel, cryostat, tpc, plane, wire
        Position. With `in_wire_space` false, `wire` counts channels from the first of the plane in its readout unit
        and `tpc` is the lowest TPC of the unit.
    peak_time, rms
        Ticks.
    peak_amplitude, integral
        ``recob::Wire`` units, and those times ticks.
    in_wire_space
        Whether `wire` is a wire.
    """

    channel: NDArray[np.int32]
    cryostat: NDArray[np.int16]
    tpc: NDArray[np.int16]
    plane: NDArray[np.int8]
    wire: NDArray[np.int32]
    peak_time: NDArray[np.float32]
    rms: NDArray[np.float32]
    peak_amplitude: NDArray[np.float32]
    integral: NDArray[np.float32]
    in_wire_space: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.channel)

    @classmethod
    def empty(cls) -> Self:
        """Give a collection without hits."""
        return cls(
            **{name: np.empty(0, dtype) for name, dtype in HIT_FIELDS.items()},
            in_wire_space=np.empty(0, bool),
        )

    def select(self, which: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Self:
        """Give some of the hits, by mask, index or slice."""
        return type(self)(**{column.name: getattr(self, column.name)[which] for column in fields(self)})

    def count_by_plane(self, n_planes: int = 3) -> list[int]:
        """Count the hits of each plane."""
        return [int((self.plane == plane).sum()) for plane in range(n_planes)]

    def check(self, detector: Detector) -> None:
        """Refuse hits that cannot be placed in an image.

        Raises
        ------
        DataError
            Code ``not-finite`` or ``wrong-detector``, naming the first such hit.
        """
        for name in ("peak_time", "rms", "peak_amplitude", "integral"):
            bad = np.flatnonzero(~np.isfinite(getattr(self, name)))
            if len(bad):
                raise DataError(
                    f"hit {bad[0]} has a {name} that is not finite",
                    code="not-finite",
                    found=f"{len(bad)} such hits",
                )
        for tpc, plane in sorted(set(zip(self.tpc.tolist(), self.plane.tolist(), strict=True))):
            here = (self.tpc == tpc) & (self.plane == plane)
            in_wire_space = self.in_wire_space[here]
            n_rows = None
            if in_wire_space.all() and (tpc, plane) in detector.tables:
                n_rows = detector.n_wires(tpc, plane)
            elif not in_wire_space.any() and 0 <= plane < detector.n_planes:
                n_rows = next(
                    (unit.channels[plane][1] for unit in detector.units if tpc == unit.tpcs[0]), None
                )
            wires = self.wire[here]
            bad = np.flatnonzero((wires < 0) | (wires >= (n_rows or 0)))
            if len(bad):
                raise DataError(
                    f"hit {np.flatnonzero(here)[bad[0]]} lies outside the detector",
                    code="wrong-detector",
                    expected=f"a wire of {detector.name}",
                    found=f"TPC {tpc}, plane {plane}, wire {wires[bad[0]]}",
                )


@dataclass(frozen=True)
class Waveforms:
    """Calibrated waveforms as sparse regions of interest, the content of a ``recob::Wire`` collection.

    Waveform *i* is that of `channel[i]`, `n_samples[i]` ticks long, zero outside its regions
    ``roi_offset[i]:roi_offset[i + 1]``. Region *r* starts at tick ``roi_start[r]`` and holds
    ``values[value_offset[r]:value_offset[r + 1]]``.

    Attributes
    ----------
    channel, n_samples
        int32 [waveforms], channels ascending and unique.
    roi_offset
        int64 [waveforms + 1].
    roi_start
        int32 [regions].
    value_offset
        int64 [regions + 1].
    values
        float32 [samples], ``recob::Wire`` units.
    """

    channel: NDArray[np.int32]
    n_samples: NDArray[np.int32]
    roi_offset: NDArray[np.int64]
    roi_start: NDArray[np.int32]
    value_offset: NDArray[np.int64]
    values: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.channel)

    @property
    def sample_waveform(self) -> NDArray[np.int64]:
        """Index of the waveform of each sample, int64 [samples]."""
        samples = np.diff(self.value_offset)
        return np.repeat(np.repeat(np.arange(len(self)), np.diff(self.roi_offset)), samples)

    @property
    def sample_tick(self) -> NDArray[np.int64]:
        """Tick of each sample, int64 [samples]."""
        samples = np.diff(self.value_offset)
        return np.repeat(self.roi_start - self.value_offset[:-1], samples) + np.arange(len(self.values))

    @classmethod
    def from_samples(
        cls,
        channel: NDArray[np.int32],
        n_samples: NDArray[np.int32],
        sample_waveform: NDArray[np.integer],
        sample_tick: NDArray[np.integer],
        values: NDArray[np.float32],
    ) -> Self:
        """Gather single samples, sorted by waveform and tick, into regions of consecutive ticks."""
        starts = np.ones(len(values), dtype=bool)
        starts[1:] = (np.diff(sample_tick) != 1) | (np.diff(sample_waveform) != 0)
        first = np.flatnonzero(starts)
        return cls(
            channel=channel,
            n_samples=n_samples,
            roi_offset=np.searchsorted(sample_waveform[first], np.arange(len(channel) + 1)).astype(np.int64),
            roi_start=sample_tick[first].astype(np.int32),
            value_offset=np.append(first, len(values)).astype(np.int64),
            values=values.astype(np.float32, copy=False),
        )

    def check(self, detector: Detector) -> None:
        """Refuse waveforms that no detector could have.

        Raises
        ------
        DataError
            Code ``not-finite`` or ``wrong-detector``.
        """
        if len(self) and not (self.channel.min() >= 0 and self.channel.max() < detector.n_channels):
            raise DataError(
                "a waveform belongs to a channel that the detector does not have",
                code="wrong-detector",
                expected=f"channels 0 to {detector.n_channels - 1} of {detector.name}",
                found=f"channels {self.channel.min()} to {self.channel.max()}",
                hint="Set inputs[].detector to the detector of this file",
            )
        bad = np.flatnonzero(~np.isfinite(self.values))
        if len(bad):
            channel = self.channel[self.sample_waveform[bad[0]]]
            raise DataError(
                f"the charge of channel {channel} at tick {self.sample_tick[bad[0]]} is not finite",
                code="not-finite",
                found=f"{self.values[bad[0]]} ({len(bad)} such samples)",
            )


@dataclass(frozen=True)
class Event:
    """One event of one file.

    Attributes
    ----------
    id
        Run, subrun and event number.
    entry
        Position of the event in its file, from 0.
    detector
        The detector.
    n_ticks
        Length of the readout window in ticks.
    waveforms
        ``None`` where the file has none; such an event cannot be classified.
    hits
        The hit collection.
    bad_channels
        int32: channels whose status is not good; their rows stay at the zero level.
    truth
        What the hits really are, where the file says it.
    sample_label
        int8, one for each of ``waveforms.values``: class of most of its charge, index into :attr:`HitTruth.LABELS`
        (``none`` for noise) or :attr:`HitTruth.UNKNOWN`; where the file says it.
    particles
        The particles that the truth refers to, where the file lists them.
    """

    id: EventId
    entry: int
    detector: Detector
    n_ticks: int
    waveforms: Waveforms | None
    hits: Hits
    bad_channels: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    truth: HitTruth | None = None
    sample_label: NDArray[np.int8] | None = None
    particles: Particles | None = None

    def check(self) -> None:
        """Refuse an event that cannot be classified.

        Raises
        ------
        DataError
            Code ``no-waveforms``, ``not-finite`` or ``wrong-detector``.
        """
        if self.waveforms is None and len(self.hits):
            raise no_waveforms()
        self.hits.check(self.detector)
        if self.waveforms is not None:
            self.waveforms.check(self.detector)
