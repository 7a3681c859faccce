"""From the class of every sample to the class of every hit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from protosonic.events.truth import HitTruth

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from protosonic.events.model import Hits, Waveforms

__all__ = ["hit_truth_from_samples", "samples_of_hits"]

_WAVEFORM_STRIDE = 2**32
"""More ticks than a waveform can have: waveform and tick make one ascending number."""


def hit_truth_from_samples(hits: Hits, waveforms: Waveforms, sample_label: NDArray[np.int8]) -> HitTruth:
    """Give each hit the class that has most of the charge within one sigma of its peak.

    Parameters
    ----------
    hits
        `channel`, `peak_time` (ticks) and `rms` (ticks) are used.
    waveforms
        The calibrated charge that the hits stand on.
    sample_label
        int8, one for each of ``waveforms.values``: index into :attr:`HitTruth.LABELS` or :attr:`HitTruth.UNKNOWN`.

    Returns
    -------
    Truth without particles. Samples below zero count as no charge. A hit on no charge, and one with most of its
    charge in samples of unknown class, is of unknown class with the fraction NaN. The first class wins a tie.
    """
    first, end = samples_of_hits(hits, waveforms)
    charge = np.maximum(waveforms.values, 0).astype(np.float64)
    classes = (*range(len(HitTruth.LABELS)), HitTruth.UNKNOWN)
    by_class = np.zeros((len(classes), len(hits)))
    for row, label in enumerate(classes):
        # Differences of the running sum: no window of samples is spelled out, however wide hits are.
        running = np.cumsum(np.where(sample_label == label, charge, 0.0))
        running = np.concatenate([np.zeros(1), running])
        by_class[row] = running[end] - running[first]
    total = by_class.sum(axis=0)
    best = by_class.argmax(axis=0)
    label_of_hit = np.where(total > 0, np.array(classes, np.int8)[best], np.int8(HitTruth.UNKNOWN))
    with np.errstate(invalid="ignore", divide="ignore"):
        fraction = by_class.max(axis=0, initial=0.0) / total
    fraction[label_of_hit == HitTruth.UNKNOWN] = np.nan
    return HitTruth(
        label=label_of_hit.astype(np.int8),
        particle=np.full(len(hits), -1, np.int32),
        charge_fraction=fraction.astype(np.float32),
    )


def samples_of_hits(hits: Hits, waveforms: Waveforms) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find the samples within one sigma of the peak of each hit.

    Returns
    -------
    First sample and the one after the last, as indices into ``waveforms.values``, intp [hits]; equal where the hit's
    channel has no charge there. The sample nearest to the peak is in the window, however narrow the hit is.
    """
    place = waveforms.sample_waveform * _WAVEFORM_STRIDE + waveforms.sample_tick
    waveform = np.searchsorted(waveforms.channel, hits.channel)
    has_waveform = np.isin(hits.channel, waveforms.channel)
    limit = _WAVEFORM_STRIDE // 2 - 1
    peak = np.clip(np.rint(hits.peak_time.astype(np.float64)), 0, limit)
    with np.errstate(invalid="ignore"):
        low = np.minimum(np.ceil(hits.peak_time.astype(np.float64) - hits.rms), peak)
        high = np.maximum(np.floor(hits.peak_time.astype(np.float64) + hits.rms), peak)
    base = np.where(has_waveform, waveform, -1).astype(np.int64) * _WAVEFORM_STRIDE
    first = np.searchsorted(place, base + np.clip(low, 0, limit).astype(np.int64), side="left")
    end = np.searchsorted(place, base + np.clip(high, 0, limit).astype(np.int64), side="right")
    return first, np.where(has_waveform, end, first)
