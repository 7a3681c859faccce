"""Writing the native format; see docs/formats.md."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from protosonic import __version__
from protosonic.errors import DataError
from protosonic.events.native_tables import (
    COLUMNS,
    EVENT_OFFSETS,
    EVENTS,
    FORMAT_NAME,
    FORMAT_VERSION,
    TRUTH_COLUMNS,
)
from protosonic.events.truth import HitTruth, Particles
from protosonic.hdf5_output import publish_hdf5

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import h5py
    from numpy.typing import NDArray

    from protosonic.detectors.geometry import Detector
    from protosonic.events.model import Event

__all__ = ["NativeWriter"]


class NativeWriter:
    """Writes a native file; it appears under its name when the ``with`` block ends without an error.

    Parameters
    ----------
    path
        The file.
    detector
        The detector of all events.
    with_truth
        Whether truth is stored; what an event does not bring of it is stored as unknown.
    """

    def __init__(self, path: Path, detector: Detector, *, with_truth: bool = False) -> None:
        self._path = path
        self._detector = detector
        self._with_truth = with_truth
        # Kept open: closing a dataset compresses its last block, which the next event then has to inflate again.
        self._datasets: dict[tuple[str, str], h5py.Dataset] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            # Metadata have checksums from HDF5 1.10 on, but for the heap that holds text of variable length.
            self._file = stack.enter_context(publish_hdf5(self._path, libver=("v110", "v110")))
            self._create_tables()
            self._stack = stack.pop_all()
        return self

    def _create_tables(self) -> None:
        self._file.attrs["format_version"] = FORMAT_VERSION
        for name, text in {
            "format": FORMAT_NAME,
            "detector": self._detector.name,
            "charge_unit": "recob::Wire",
            "time_unit": "tick",
            "creator": f"protosonic {__version__}",
        }.items():
            self._file.attrs[name] = np.bytes_(text)
        columns = COLUMNS | (TRUTH_COLUMNS if self._with_truth else {})
        for table, types in columns.items():
            for column, dtype in types.items():
                self._datasets[table, column] = self._file.create_dataset(
                    f"{table}/{column}",
                    shape=(0,),
                    maxshape=(None,),
                    dtype=dtype,
                    chunks=(1024 if table == "events" else 65536,),
                    compression="gzip",
                    compression_opts=1,
                    shuffle=True,
                    fletcher32=True,
                )
        offsets = [("events", name) for name in EVENT_OFFSETS] + [
            ("waveforms", "roi_offset"),
            ("rois", "value_offset"),
        ]
        for table, column in offsets + ([("truth", "particle_offset")] if self._with_truth else []):
            self._append(table, column, np.zeros(1))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, event: Event) -> None:
        """Append an event.

        Raises
        ------
        DataError
            Code ``wrong-detector``: the event is of another detector than the file.
        """
        if event.detector.name != self._detector.name:
            raise DataError(
                "a native file holds events of one detector",
                code="wrong-detector",
                file=self._path,
                where=str(event.id),
                expected=self._detector.name,
                found=event.detector.name,
            )
        hits, waveforms = event.hits, event.waveforms
        for name, value in zip(EVENTS, (*event.id, event.n_ticks, waveforms is not None), strict=True):
            self._append("events", name, np.array([value]))
        for column in fields(hits):
            self._append("hits", column.name, getattr(hits, column.name))
        if self._with_truth:
            self._write_truth(event)
        self._append("bad_channels", "channel", event.bad_channels)
        if waveforms is not None:
            regions, samples = self._rows("rois", "start"), self._rows("values", "charge")
            self._append("waveforms", "channel", waveforms.channel)
            self._append("waveforms", "n_samples", waveforms.n_samples)
            self._append("waveforms", "roi_offset", waveforms.roi_offset[1:] + regions)
            self._append("rois", "start", waveforms.roi_start)
            self._append("rois", "value_offset", waveforms.value_offset[1:] + samples)
            self._append("values", "charge", waveforms.values)
        self._append("events", "hit_offset", np.array([self._rows("hits", "channel")]))
        self._append("events", "waveform_offset", np.array([self._rows("waveforms", "channel")]))
        self._append("events", "bad_channel_offset", np.array([self._rows("bad_channels", "channel")]))

    def _write_truth(self, event: Event) -> None:
        truth = event.truth or HitTruth.unknown(len(event.hits))
        particles = event.particles or Particles.empty()
        for name in ("label", "particle", "charge_fraction"):
            self._append("truth", f"hit_{name}", getattr(truth, name))
        n_samples = len(event.waveforms.values) if event.waveforms is not None else 0
        sample_label = event.sample_label
        self._append(
            "truth",
            "sample_label",
            np.full(n_samples, HitTruth.UNKNOWN) if sample_label is None else sample_label,
        )
        for name in TRUTH_COLUMNS["particles"]:
            self._append("particles", name, getattr(particles, name))
        self._append("truth", "particle_offset", np.array([self._rows("particles", "pdg")]))

    def _rows(self, table: str, column: str) -> int:
        return len(self._datasets[table, column])

    def _append(self, table: str, column: str, values: NDArray[Any]) -> None:
        dataset = self._datasets[table, column]
        start = len(dataset)
        dataset.resize((start + len(values),))
        dataset[start:] = values
