"""Waveforms from the dense blocks and single samples that files hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from protosonic.errors import DataError
from protosonic.events.model import MAX_SAMPLES, Waveforms
from protosonic.events.truth import HitTruth

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["WaveformBuilder"]


class WaveformBuilder:
    """Builds :class:`Waveforms` from blocks of dense samples, keeping only what is not zero.

    Attributes
    ----------
    sample_label
        Once built, int8: the class of each of ``values``, :attr:`HitTruth.UNKNOWN` where none was given; ``None`` where
        no sample has one.
    """

    sample_label: NDArray[np.int8] | None = None

    def __init__(self) -> None:
        self._channels: list[NDArray[np.int32]] = []
        self._rows: list[NDArray[np.int64]] = []
        self._ticks: list[NDArray[np.int32]] = []
        self._values: list[NDArray[np.float32]] = []
        self._labels: list[NDArray[np.int8]] = []
        self._has_labels = False
        self._n_rows = 0
        self._n_samples = 0

    def add_rows(self, channels: NDArray[np.int32]) -> int:
        """Announce rows by their channels; returns the number to add to their row numbers in :meth:`add_block`."""
        first = self._n_rows
        self._channels.append(channels.astype(np.int32))
        self._n_rows += len(channels)
        return first

    def add_block(
        self,
        block: NDArray[np.float32],
        first_row: int,
        first_tick: int,
        labels: NDArray[np.int8] | None = None,
    ) -> None:
        """Add a dense block, float [rows, ticks]; NaN counts as not zero, so that it is found later.

        `labels`, int8 [rows, ticks], are the classes of the samples where they are known.
        """
        rows, ticks = np.nonzero(block)
        self.add_samples(
            block[rows, ticks],
            rows + first_row,
            ticks + first_tick,
            None if labels is None else labels[rows, ticks],
        )

    def add_samples(
        self,
        values: NDArray[np.floating | np.integer],
        rows: NDArray[np.integer],
        ticks: NDArray[np.integer],
        labels: NDArray[np.int8] | None = None,
    ) -> None:
        """Add single samples by row and tick, with their classes where they are known.

        Raises
        ------
        DataError
            Code ``hostile``: there are more than :data:`MAX_SAMPLES`.
        """
        self._n_samples += len(values)
        _limit_samples(self._n_samples)
        self._rows.append(rows.astype(np.int64, copy=False))
        self._ticks.append(ticks.astype(np.int32, copy=False))
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # what is too large becomes infinite and is found later
            self._values.append(values.astype(np.float32, copy=False))
        self._has_labels |= labels is not None
        self._labels.append(np.full(len(values), HitTruth.UNKNOWN, np.int8) if labels is None else labels)

    def build(self, n_samples: int, charge_scale: float = 1.0, ticks_per_bin: int = 1) -> Waveforms:
        """Sort, scale and gather.

        Parameters
        ----------
        n_samples
            Length of every waveform in ticks.
        charge_scale
            Factor to ``recob::Wire`` units.
        ticks_per_bin
            Each stored sample becomes that many ticks of its value.

        Raises
        ------
        DataError
            Code ``corrupt`` when a channel was announced twice, ``hostile`` when there are more than
            :data:`MAX_SAMPLES` ticks.
        """
        _limit_samples(self._n_samples * ticks_per_bin)
        channels = np.concatenate(self._channels) if self._channels else np.empty(0, np.int32)
        by_channel = np.argsort(channels, kind="stable")
        repeated = np.flatnonzero(np.diff(channels[by_channel]) == 0)
        if len(repeated):
            raise DataError(f"channel {channels[by_channel][repeated[0]]} is given twice", code="corrupt")
        position = np.empty(len(channels), dtype=np.int64)
        position[by_channel] = np.arange(len(channels))
        rows = position[np.concatenate(self._rows)] if self._rows else np.empty(0, np.int64)
        ticks = np.concatenate(self._ticks) if self._ticks else np.empty(0, np.int32)
        values = np.concatenate(self._values) if self._values else np.empty(0, np.float32)
        order = np.lexsort((ticks, rows))
        rows, ticks = rows[order], ticks[order]
        with np.errstate(over="ignore", invalid="ignore"):
            values = values[order] * np.float32(charge_scale)
        if self._has_labels:
            self.sample_label = np.repeat(np.concatenate(self._labels)[order], ticks_per_bin)
        if ticks_per_bin > 1:
            rows, values = np.repeat(rows, ticks_per_bin), np.repeat(values, ticks_per_bin)
            ticks = (ticks[:, None] * ticks_per_bin + np.arange(ticks_per_bin)).ravel()
        lengths = np.full(len(channels), n_samples, dtype=np.int32)
        return Waveforms.from_samples(channels[by_channel], lengths, rows, ticks, values)


def _limit_samples(n_samples: int) -> None:
    if n_samples > MAX_SAMPLES:
        raise DataError(
            "the event has more samples that are not zero than any detector makes",
            code="hostile",
            expected=f"at most {MAX_SAMPLES}",
            found=n_samples,
        )
