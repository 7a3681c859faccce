"""The interface that every input format implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np

from protosonic.detectors import load_detector
from protosonic.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from protosonic.detectors.geometry import Detector
    from protosonic.events.model import Event, EventId
    from protosonic.events.source import AnyFile

__all__ = [
    "MAX_TICKS",
    "BadEvent",
    "EventFile",
    "EventSummary",
    "ReaderOptions",
    "as_integers",
    "count_by_plane",
    "numbering_of",
    "numberings",
    "wanted_entries",
]

Integer = TypeVar("Integer", bound=np.integer)

MAX_TICKS = 65536
"""No readout window is longer (ProtoDUNE: 6,000; long cosmic runs: 15,000); a file that claims more is refused."""


@dataclass(frozen=True)
class ReaderOptions:
    """What the configuration says about a file; see the ``inputs`` section for the meaning."""

    detector: str | None = None
    charge_scale: float | None = None
    run: int = 0
    tag: str = "gauss"
    ticks_per_bin: int = 1
    hit_threshold: float = 0.6


@dataclass(frozen=True)
class BadEvent:
    """An event that its file names but that cannot be used."""

    id: EventId
    entry: int
    error: DataError


@dataclass(frozen=True)
class EventSummary:
    """What the catalog keeps of an event.

    Attributes
    ----------
    hits_by_plane
        Number of hits of each plane.
    n_samples
        Number of waveform samples that are not zero (sizes the memory of jobs).
    median_amplitude
        Median hit amplitude on the collection plane in ``recob::Wire`` units, where it is known.
    error
        Why the event cannot be classified.
    """

    id: EventId
    entry: int
    hits_by_plane: tuple[int, ...] = ()
    n_samples: int = 0
    median_amplitude: float | None = None
    error: DataError | None = None


def wanted_entries(entries: Sequence[int] | None, n_events: int) -> list[int]:
    """Give the entries to read in the order of the file; those that the file does not have are left out."""
    return list(range(n_events)) if entries is None else sorted(set(entries) & set(range(n_events)))


class EventFile(ABC):
    """An open input file; use it as a context manager.

    Parameters
    ----------
    path
        The file.
    options
        What the configuration says about it.

    Raises
    ------
    DataError
        The file cannot be used at all.
    ConfigError
        The configuration lacks something that this format needs.
    """

    format: ClassVar[str]
    detector: Detector

    def __init__(self, path: AnyFile, options: ReaderOptions) -> None:
        self.path = path
        self.options = options

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    @abstractmethod
    def read(self, entries: Sequence[int] | None = None) -> Iterator[Event | BadEvent]:
        """Read events one by one, in the order of the file.

        Parameters
        ----------
        entries
            Positions of the wanted events; all by default. Positions that the file does not have are passed over.

        Yields
        ------
        Each event after its :meth:`Event.check`, or the reason why it cannot be used. What cannot be read never ends
        the iteration; only what makes the whole file unusable raises.
        """

    @abstractmethod
    def summaries(self) -> Iterator[EventSummary]:
        """Summarise every event, reading as little as the format allows."""


def required_detector(options: ReaderOptions, path: AnyFile, file_format: str) -> Detector:
    """Return the configured detector, for formats that do not store one.

    Raises
    ------
    ConfigError
        None is configured.
    """
    if options.detector is None:
        raise ConfigError(
            f"inputs[].detector (--detector) is needed: {file_format} files do not name their detector",
            file=path,
            hint="Set it to one of: protodune-sp, protodune-hd, protodune-vd, dune10kt-1x2x6, microboone",
        )
    return load_detector(options.detector)


def required_scale(options: ReaderOptions, path: AnyFile) -> float:
    """Return the configured charge scale, for formats that do not store a unit.

    Raises
    ------
    ConfigError
        None is configured.
    """
    if options.charge_scale is None:
        raise ConfigError(
            "inputs[].charge_scale (--charge-scale) is needed: Wire-Cell files carry no unit",
            file=path,
            hint="1e-3 turns ProtoDUNE electrons into recob::Wire units; see docs/formats.md",
        )
    return options.charge_scale


def as_integers(values: NDArray[Any], dtype: type[Integer], where: str) -> NDArray[Integer]:
    """Turn numbers of a file into integers; some writers store whole numbers as floating point.

    Raises
    ------
    DataError
        Code ``corrupt``: a number is not finite, or too large for its type.
    """
    limits = np.iinfo(dtype)
    low, high = int(limits.min), int(limits.max)
    if values.dtype.kind == "f":
        low, high = max(low, -(2**53)), min(high, 2**53)
        values = np.rint(values.astype(np.float64))
    bad = np.flatnonzero(~((values >= low) & (values <= high)))
    if len(bad):
        raise DataError(
            "a number is not finite or too large",
            code="corrupt",
            where=where,
            expected=f"{low} to {high}",
            found=values[bad[0]],
        )
    return values.astype(dtype)


def count_by_plane(planes: NDArray[np.integer], detector: Detector) -> tuple[int, ...]:
    """Count the hits of each plane from the planes of the hits.

    Raises
    ------
    DataError
        Code ``wrong-detector``: there is no such plane.
    """
    if len(planes) and not 0 <= planes.min() <= planes.max() < detector.n_planes:
        raise DataError(
            "a hit lies in a plane that the detector does not have",
            code="wrong-detector",
            expected=f"planes 0 to {detector.n_planes - 1} of {detector.name}",
            found=f"planes {planes.min()} to {planes.max()}",
        )
    return tuple(np.bincount(planes, minlength=detector.n_planes).tolist())


def numberings(detector: Detector) -> list[Detector]:
    """List the detector and those that are the same with another channel numbering."""
    return [detector, *map(load_detector, detector.other_numberings)]


def numbering_of(detector: Detector, channels: NDArray[np.int32]) -> Detector:
    """Find the channel numbering that a file uses, among those of one detector.

    ProtoDUNE-VD files come with 12288 or with 12304 channels. The numbering in which the channels of the file form
    whole planes is taken; the configured one wins a tie.

    Raises
    ------
    DataError
        Code ``wrong-detector``: the channels fit none.
    """
    candidates = numberings(detector)
    fits = [candidate.channel_fit(channels) for candidate in candidates]
    if max(fits) < 0:
        raise DataError(
            "the file has channels that the detector does not have",
            code="wrong-detector",
            expected=f"channels 0 to {detector.n_channels - 1} of {detector.name}",
            found=f"channels {channels.min()} to {channels.max()}",
            hint="Set inputs[].detector to the detector of this file",
        )
    return candidates[fits.index(max(fits))]
