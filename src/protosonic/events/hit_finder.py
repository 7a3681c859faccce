"""A hit finder for inputs without hits, in the style of LArSoft's GausHitFinder.

As in ``CandHitStandard`` a hit is a local maximum above the ROI threshold in calibrated charge, separated from its
neighbours at the minima between them; as in ``GausHitFinder`` its parameters are those of a Gaussian. The Gaussian is
fitted in closed form: a parabola through the logarithm of the samples above half of the maximum, each weighted with
the square of its charge (Guo 2011, doi:10.1109/MSP.2011.941846). Overlapping pulses are not fitted together, and long
pulses are not cut into several hits; that is what differs from GausHitFinder's MaxMultiHit and LongPulseWidth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from protosonic.detectors.geometry import CRYOSTAT
from protosonic.events.model import Hits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from protosonic.detectors.geometry import Detector
    from protosonic.events.model import Waveforms

__all__ = ["find_hits", "fit_pulses"]

_FWHM_OVER_SIGMA = 2.354820045


def find_hits(
    waveforms: Waveforms, detector: Detector, threshold: float, bad_channels: NDArray[np.int32] | None = None
) -> Hits:
    """Find the hits of an event that has waveforms only.

    Parameters
    ----------
    waveforms
        Calibrated charge in ``recob::Wire`` units, finite.
    detector
        Places channels; channels of wrapped planes stay in channel space.
    threshold
        Least charge of a local maximum, ``recob::Wire`` units (``RoiThreshold``, 0.6 for ProtoDUNE).
    bad_channels
        Channels without hits.

    Returns
    -------
    Hits in order of channel and time.
    """
    waveform_of_sample = waveforms.sample_waveform
    roi_of_sample = np.repeat(np.arange(len(waveforms.roi_start)), np.diff(waveforms.value_offset))
    position, rms, amplitude, peak = fit_pulses(
        waveforms.values, roi_of_sample, waveforms.sample_tick, threshold
    )
    channel = waveforms.channel[waveform_of_sample[peak]]
    if bad_channels is not None and len(bad_channels):
        good = ~np.isin(channel, bad_channels)
        channel, position, rms, amplitude = channel[good], position[good], rms[good], amplitude[good]
    places = detector.channel_places
    with np.errstate(over="ignore"):  # charge at the limit of single precision: Hits.check refuses it
        amplitude_single = amplitude.astype(np.float32)
        integral = (amplitude * rms * np.sqrt(2 * np.pi)).astype(np.float32)
    return Hits(
        channel=channel,
        cryostat=np.full(len(channel), CRYOSTAT, np.int16),
        tpc=places.tpc[channel],
        plane=places.plane[channel],
        wire=places.wire[channel],
        peak_time=position.astype(np.float32),
        rms=rms.astype(np.float32),
        peak_amplitude=amplitude_single,
        integral=integral,
        in_wire_space=places.in_wire_space[channel],
    )


def fit_pulses(
    values: NDArray[np.float32], roi: NDArray[np.integer], tick: NDArray[np.int64], threshold: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Find the local maxima of sparse samples and fit a Gaussian to each.

    Parameters
    ----------
    values, roi, tick
        Charge, region and tick of each sample; sorted by region and tick, ticks consecutive within a region. Outside
        of its region a waveform is zero.
    threshold
        Least charge of a maximum.

    Returns
    -------
    Position (ticks), sigma (ticks) and amplitude of each pulse, float64 [pulses], and the sample of its maximum.
    """
    peak = _local_maxima(values, roi, threshold)
    if not len(peak):
        nothing = np.empty(0)
        return nothing, nothing, nothing, peak
    pulse = _pulse_of_samples(values, roi, peak)
    near = _samples_above_half(values, pulse, peak)
    pulse, charge = pulse[near], values[near].astype(np.float64)
    # Ticks relative to the maximum keep the normal equations well conditioned.
    offset = (tick[near] - tick[peak][pulse]).astype(np.float64)
    height = values[peak].astype(np.float64)
    return (*_fit_gaussians(pulse, offset, charge, height, tick[peak]), peak)


def _local_maxima(
    values: NDArray[np.float32], roi: NDArray[np.integer], threshold: float
) -> NDArray[np.intp]:
    """Find samples that are local maxima above the threshold; of a plateau the middle one."""
    changes = np.ones(len(values), dtype=bool)
    new_roi = np.ones(len(values), dtype=bool)
    new_roi[1:] = np.diff(roi) != 0
    changes[1:] = (np.diff(values) != 0) | new_roi[1:]
    first = np.flatnonzero(changes)
    last = np.append(first[1:], len(values)) - 1
    height = values[first]
    starts_roi = new_roi[first]
    ends_roi = np.append(starts_roi[1:], np.ones(min(len(first), 1), dtype=bool))
    before = np.where(starts_roi, 0, np.roll(height, 1))
    after = np.where(ends_roi, 0, np.roll(height, -1))
    is_peak = (height > threshold) & (height > before) & (height > after)
    middle: NDArray[np.intp] = (first[is_peak] + last[is_peak]) // 2
    return middle


def _pulse_of_samples(
    values: NDArray[np.float32], roi: NDArray[np.integer], peak: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Pulse that each sample belongs to; neighbours in one region part at the least sample between them."""
    same_roi = np.flatnonzero(np.diff(roi[peak]) == 0)
    border = np.searchsorted(roi, roi[peak], side="left")  # a pulse starts with its region …
    if len(same_roi):
        left, right = peak[same_roi], peak[same_roi + 1]  # … or at the minimum after the pulse before it
        marks = np.zeros(len(values) + 1, dtype=np.int8)
        np.add.at(marks, left + 1, 1)
        np.add.at(marks, right, -1)
        between = np.cumsum(marks[:-1]) > 0
        sample = np.flatnonzero(between)
        gap = np.searchsorted(left, sample, side="left") - 1
        order = np.lexsort((sample, values[sample], gap))
        _, least = np.unique(gap[order], return_index=True)
        border[same_roi + 1] = sample[order][least]
    pulse: NDArray[np.intp] = np.searchsorted(border, np.arange(len(values)), side="right") - 1
    # Samples of regions without a pulse belong to none.
    pulse[(pulse < 0) | (roi != roi[peak][np.maximum(pulse, 0)])] = -1
    return pulse


def _samples_above_half(
    values: NDArray[np.float32], pulse: NDArray[np.intp], peak: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Find the samples of each pulse that are connected to its maximum and above half of it."""
    above = (pulse >= 0) & (values > 0) & (values >= 0.5 * values[peak][np.maximum(pulse, 0)])
    changes = np.ones(len(values), dtype=bool)
    changes[1:] = (np.diff(above.astype(np.int8)) != 0) | (np.diff(pulse) != 0)
    group = np.cumsum(changes)
    return np.flatnonzero(above & (group == group[peak][np.maximum(pulse, 0)]))


def _fit_gaussians(
    pulse: NDArray[np.intp],
    offset: NDArray[np.float64],
    charge: NDArray[np.float64],
    height: NDArray[np.float64],
    tick: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    n = len(height)

    def total(x: NDArray[np.float64]) -> NDArray[np.float64]:
        sums: NDArray[np.float64] = np.bincount(pulse, weights=x, minlength=n).astype(np.float64)
        return sums

    samples = np.bincount(pulse, minlength=n)
    mean = total(charge * offset) / total(charge)
    # Fallback for pulses that are too short or too flat for a parabola: width at half maximum.
    position, sigma, amplitude = mean.copy(), samples / _FWHM_OVER_SIGMA, height.copy()
    weight = (charge / height[pulse]) ** 2
    log_charge = np.log(charge / height[pulse])
    s = [total(weight * offset**k) for k in range(5)]
    t = [total(weight * offset**k * log_charge) for k in range(3)]
    matrix = np.stack(
        [np.stack([s[0], s[1], s[2]]), np.stack([s[1], s[2], s[3]]), np.stack([s[2], s[3], s[4]])]
    )
    matrix = np.moveaxis(matrix, 2, 0)
    solvable = (samples >= 3) & (np.abs(np.linalg.det(matrix)) > 1e-9)
    a, b, c = np.linalg.solve(matrix[solvable], np.stack([x[solvable] for x in t], axis=1)[..., None])[
        ..., 0
    ].T
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        fitted = np.stack([-b / (2 * c), np.sqrt(-1 / (2 * c)), np.exp(a - b**2 / (4 * c))])
    # A sane fit peaks among its samples, near their maximum, and is not much wider than they are.
    low = np.full(n, np.inf)
    high = np.full(n, -np.inf)
    np.minimum.at(low, pulse, offset)
    np.maximum.at(high, pulse, offset)
    sane = (
        np.isfinite(fitted).all(axis=0)
        & (c < 0)
        & (fitted[0] >= low[solvable] - 0.5)
        & (fitted[0] <= high[solvable] + 0.5)
        & (fitted[1] <= 2 * samples[solvable])
        & (fitted[2] <= 2)
    )
    good = np.flatnonzero(solvable)[sane]
    # A pulse that its region cuts near the maximum stays in the region, as the bounds of GausHitFinder's fit keep it.
    position[good] = np.clip(fitted[0][sane], low[good], high[good])
    sigma[good] = fitted[1][sane]
    amplitude[good] = fitted[2][sane] * height[good]
    return position + tick, sigma, amplitude
