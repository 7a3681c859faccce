"""From charge at the wires to calibrated waveforms: response, noise, regions of interest, crumbs, dead channels.

What is simulated is the outcome of signal processing (Wire-Cell's 2D deconvolution), not the raw waveform: a Gaussian
pulse for every cloud of electrons, spread over the neighbouring wires, on noise that only shows inside of regions of
interest. Induction planes lose part of what is longer than their field response.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.special import erf

from protosonic.events.model import Waveforms
from protosonic.simulation.particles import EM, MICHEL, NONE, TRACK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from protosonic.detectors.geometry import Detector
    from protosonic.simulation.conditions import Conditions
    from protosonic.simulation.drift import WireCharge

__all__ = ["dead_channels", "form_waveforms"]

_SIGMAS = 3.5  # a pulse ends there
_LEAST_SIGNAL = 0.03  # thousand electrons per tick: no sample below it starts a region
_LONG_SIGNAL_TICKS = 160
_NEIGHBOURS = (-1, 0, 1)
_NOISE_KERNEL = np.array([0.25, 0.6, 1.0, 0.6, 0.25])
_CRUMB_TICKS = 7
_CRUMB_HEIGHT = 0.15  # thousand electrons per tick above the threshold


class _Samples(NamedTuple):
    """Samples of one plane of a unit, ascending in channel and tick: cell is channel × ticks + tick."""

    cell: NDArray[np.int64]
    value: NDArray[np.float32]
    label: NDArray[np.int8]


def dead_channels(detector: Detector, conditions: Conditions, rng: np.random.Generator) -> NDArray[np.int32]:
    """Choose the channels that give no signal, ascending."""
    return np.flatnonzero(rng.random(detector.n_channels) < conditions.dead_fraction).astype(np.int32)


def form_waveforms(
    charge: WireCharge,
    detector: Detector,
    conditions: Conditions,
    dead: NDArray[np.int32],
    crumb_scale: float,
    rng: np.random.Generator,
) -> tuple[Waveforms, NDArray[np.int8]]:
    """Make the waveforms of an event.

    Parameters
    ----------
    charge
        Charge at the wires, of all planes.
    detector, conditions
        Where it is read.
    dead
        Channels without a waveform.
    crumb_scale
        Factor on the number of crumbs.
    rng
        Random numbers.

    Returns
    -------
    The waveforms, and the class of most of the charge of each sample: int8 [samples].
    """
    parts = []
    for unit, readout in enumerate(detector.units):
        for plane, (first, count) in enumerate(readout.channels):
            channels = np.setdiff1d(np.arange(first, first + count), dead)
            here = charge.select((charge.unit == unit) & (charge.plane == plane))
            signal = _signal(here, plane, channels, detector, conditions, rng)
            crumbs = _crumbs(plane, channels, detector, conditions, crumb_scale, rng)
            parts.append(_regions(_join(signal, crumbs), plane, detector, conditions, rng))
    cell = np.concatenate([part.cell for part in parts])
    value = np.concatenate([part.value for part in parts])
    label = np.concatenate([part.label for part in parts])
    of_channel, tick = np.divmod(cell, detector.n_ticks)
    channels, waveform = np.unique(of_channel, return_inverse=True)
    lengths = np.full(len(channels), detector.n_ticks, np.int32)
    return (
        Waveforms.from_samples(channels.astype(np.int32), lengths, waveform.reshape(-1), tick, value),
        label,
    )


def _signal(
    charge: WireCharge,
    plane: int,
    channels: NDArray[np.int64],
    detector: Detector,
    conditions: Conditions,
    rng: np.random.Generator,
) -> _Samples:
    """Sum the pulses of all clouds on dense rows of the channels that see any."""
    nothing = _Samples(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.int8))
    if not len(charge):
        return nothing
    channel, share, cloud = _spread_over_wires(charge, plane, detector, conditions)
    alive = np.isin(channel, channels)
    channel, share, cloud = channel[alive], share[alive], cloud[alive]
    seen, row = np.unique(channel, return_inverse=True)
    row = row.reshape(-1)
    amount = charge.charge[cloud] * share
    sigma = np.hypot(charge.sigma[cloud], conditions.response_ticks[plane])
    label = charge.label[cloud]
    by_label = {}
    n_ticks = detector.n_ticks
    for kind in (TRACK, EM, MICHEL):
        which = label == kind
        if kind == TRACK or which.any():
            by_label[kind] = _sum_pulses(
                row[which], charge.tick[cloud[which]], sigma[which], amount[which], len(seen), n_ticks
            )
    kinds = np.array(list(by_label), np.int8)
    total = sum(by_label.values())
    image = np.asarray(total).reshape(len(seen), n_ticks)
    if plane < 2 and conditions.long_signal_loss > 0:
        slow = uniform_filter1d(image, _LONG_SIGNAL_TICKS, axis=1, mode="constant")
        image -= np.float32(conditions.long_signal_loss) * slow
    image *= rng.normal(1, conditions.gain_spread, (len(seen), 1)).astype(np.float32)
    place = np.flatnonzero(image > _LEAST_SIGNAL)
    if not len(place):
        return nothing
    value = image.reshape(-1)[place]
    white = rng.standard_normal(len(place) + len(_NOISE_KERNEL) - 1, np.float32)
    noise = np.convolve(white, _NOISE_KERNEL, mode="valid")
    value = value + conditions.noise[plane] / np.linalg.norm(_NOISE_KERNEL) * noise
    most = np.stack([by_label[int(kind)][place] for kind in kinds]).argmax(axis=0)
    cell = seen[place // n_ticks].astype(np.int64) * n_ticks + place % n_ticks
    return _Samples(cell, value.astype(np.float32), kinds[most])


def _spread_over_wires(
    charge: WireCharge, plane: int, detector: Detector, conditions: Conditions
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.intp]]:
    """Split clouds over the wire that they reach and its neighbours.

    Returns
    -------
    Channel, share of the charge and index of the cloud, one element for each piece.
    """
    width = np.maximum(np.hypot(charge.spread, conditions.response_wires[plane]), 0.02) * np.sqrt(2)
    wire = np.floor(charge.coordinate).astype(np.int64)
    inside = charge.coordinate - wire
    edges = [erf((edge - inside) / width) for edge in (-1.0, 0.0, 1.0, 2.0)]
    channels, shares, clouds = [], [], []
    for index, offset in enumerate(_NEIGHBOURS):
        share = 0.5 * (edges[index + 1] - edges[index])
        table_of = charge.tpc
        for tpc in np.unique(table_of):
            table = detector.tables[int(tpc), plane]
            here = np.flatnonzero(
                (table_of == tpc) & (share > 0.01) & (wire + offset >= 0) & (wire + offset < len(table))
            )
            channels.append(table[wire[here] + offset])
            shares.append(share[here])
            clouds.append(here)
    return np.concatenate(channels), np.concatenate(shares).astype(np.float32), np.concatenate(clouds)


def _sum_pulses(
    row: NDArray[np.intp],
    tick: NDArray[np.float64],
    sigma: NDArray[np.float64],
    charge: NDArray[np.float32],
    n_rows: int,
    n_ticks: int,
) -> NDArray[np.float32]:
    """Add Gaussians to rows of ticks, float32 [rows × ticks]."""
    first = np.maximum(np.ceil(tick - _SIGMAS * sigma), 0).astype(np.int64)
    last = np.minimum(np.floor(tick + _SIGMAS * sigma), n_ticks - 1).astype(np.int64)
    length = np.maximum(last - first + 1, 0)
    pulse = np.repeat(np.arange(len(row)), length)
    at = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length) + first[pulse]
    offset = ((at - tick[pulse]) / sigma[pulse]).astype(np.float32)
    height = (charge / (sigma * np.sqrt(2 * np.pi))).astype(np.float32)
    value = height[pulse] * np.exp(np.float32(-0.5) * offset * offset)
    cells = np.bincount(row[pulse] * n_ticks + at, weights=value, minlength=n_rows * n_ticks)
    return cells.astype(np.float32)


def _crumbs(
    plane: int,
    channels: NDArray[np.int64],
    detector: Detector,
    conditions: Conditions,
    scale: float,
    rng: np.random.Generator,
) -> _Samples:
    """Make fragments of noise: short pulses, nearly all of them below the threshold of hits."""
    n = rng.poisson(conditions.crumbs[plane] * scale * len(channels)) if len(channels) else 0
    channel = channels[rng.integers(0, max(len(channels), 1), n)] if n else np.empty(0, np.int64)
    middle = rng.uniform(0, detector.n_ticks, n)
    sigma = rng.uniform(0.6, 2.2, n)
    low = conditions.low_threshold[plane]
    height = low + rng.exponential(_CRUMB_HEIGHT, n)
    tick = np.floor(middle).astype(np.int64)[:, None] + np.arange(_CRUMB_TICKS) - _CRUMB_TICKS // 2
    value = height[:, None] * np.exp(-0.5 * ((tick + 0.5 - middle[:, None]) / sigma[:, None]) ** 2)
    inside = (tick >= 0) & (tick < detector.n_ticks) & (value > low)
    cell = (channel[:, None] * detector.n_ticks + tick)[inside]
    cell, index = np.unique(cell, return_index=True)
    return _Samples(cell, value[inside][index].astype(np.float32), np.full(len(cell), NONE, np.int8))


def _join(signal: _Samples, crumbs: _Samples) -> _Samples:
    """Put crumbs where there is no signal."""
    free = ~np.isin(crumbs.cell, signal.cell)
    cell = np.concatenate([signal.cell, crumbs.cell[free]])
    order = np.argsort(cell, kind="stable")
    return _Samples(
        cell[order],
        np.concatenate([signal.value, crumbs.value[free]])[order],
        np.concatenate([signal.label, crumbs.label[free]])[order],
    )


def _regions(
    samples: _Samples, plane: int, detector: Detector, conditions: Conditions, rng: np.random.Generator
) -> _Samples:
    """Keep regions of interest: connected samples above the low threshold that reach the high one.

    Signal processing keeps some that do not; half of them stay, chosen by chance.
    """
    samples = _select(samples, samples.value > conditions.low_threshold[plane])
    if not len(samples.cell):
        return samples
    starts = np.ones(len(samples.cell), bool)
    starts[1:] = (np.diff(samples.cell) != 1) | (samples.cell[1:] % detector.n_ticks == 0)
    region = np.cumsum(starts) - 1
    height = np.maximum.reduceat(samples.value, np.flatnonzero(starts))
    kept = (height > conditions.high_threshold[plane]) | (rng.random(len(height)) < 0.5)
    return _select(samples, kept[region])


def _select(samples: _Samples, which: NDArray[np.bool_]) -> _Samples:
    return _Samples(samples.cell[which], samples.value[which], samples.label[which])
