"""Which wire and which particle a simulated hit belongs to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from protosonic.simulation.particles import NONE
from protosonic.simulation.volumes import drift_volumes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from protosonic.detectors.geometry import Detector
    from protosonic.events.model import Hits
    from protosonic.events.truth import HitTruth
    from protosonic.simulation.drift import WireCharge

__all__ = ["place_hits"]

_MOST_TICKS, _MOST_WIRES = 2**20, 2**12


def place_hits(hits: Hits, truth: HitTruth, charge: WireCharge, detector: Detector) -> tuple[Hits, HitTruth]:
    """Give each hit the wire and the particle that brought most of its charge.

    The hit finder knows channels only; on wrapped planes this stands for LArSoft's disambiguation, without its errors.
    Hits of noise stand on a wire of their channel in a drift volume.
    """
    tpc, wire = _any_wire(hits, detector)
    particle = np.full(len(hits), -1, np.int32)
    if len(hits) and len(charge):
        cloud, hit, at_wire, weight = _clouds_of_hits(hits, charge, detector)
        best_hit, best_wire = _heaviest(hit, charge.tpc[cloud] * np.int64(_MOST_WIRES) + at_wire, weight)
        tpc[best_hit], wire[best_hit] = np.divmod(best_wire, _MOST_WIRES)
        best_hit, best_particle = _heaviest(hit, charge.particle[cloud].astype(np.int64), weight)
        particle[best_hit] = best_particle
    particle[truth.label == NONE] = -1
    hits = replace(hits, tpc=tpc, wire=wire, in_wire_space=np.ones(len(hits), bool))
    return hits, replace(truth, particle=particle)


def _any_wire(hits: Hits, detector: Detector) -> tuple[NDArray[np.int16], NDArray[np.int32]]:
    """Give each hit a wire of its channel: the last one in the first drift volume that has any, else as it is."""
    tpc_of, wire_of = (
        np.full(detector.n_channels, -1, np.int16),
        np.full(detector.n_channels, -1, np.int32),
    )
    live = {volume.tpc for volume in drift_volumes(detector)}
    # Those written last stay: drift volumes after the others.
    for tpc, plane in sorted(detector.tables, key=lambda key: (key[0] in live, -key[0], key[1])):
        table = detector.tables[tpc, plane]
        tpc_of[table], wire_of[table] = tpc, np.arange(len(table))
    return tpc_of[hits.channel], wire_of[hits.channel]


def _clouds_of_hits(
    hits: Hits, charge: WireCharge, detector: Detector
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int64], NDArray[np.float32]]:
    """Find the hits that each cloud belongs to: the nearest one in time on its channel, within two widths.

    Returns
    -------
    Cloud, hit, wire and charge; a cloud also belongs, with a tenth of its charge, to the hit on the wire that it is next to.
    """
    wire = np.floor(charge.coordinate).astype(np.int64)
    beside = np.where(charge.coordinate - wire < 0.5, wire - 1, wire + 1)
    order = np.argsort(_place(hits.channel, hits.peak_time), kind="stable")
    clouds, found, wires, weights = [], [], [], []
    for at_wire, weight in ((wire, 1.0), (beside, 0.1)):
        channel = np.full(len(charge), -1, np.int64)
        for tpc, plane in np.unique(np.stack([charge.tpc, charge.plane], axis=1), axis=0).tolist():
            table = detector.tables[tpc, plane]
            here = (charge.tpc == tpc) & (charge.plane == plane) & (at_wire >= 0) & (at_wire < len(table))
            channel[here] = table[at_wire[here]]
        cloud = np.flatnonzero(channel >= 0)
        mine = _place(channel[cloud], charge.tick[cloud])
        place = _place(hits.channel, hits.peak_time)
        right = np.searchsorted(place[order], mine)
        candidates = np.stack([order[np.maximum(right - 1, 0)], order[np.minimum(right, len(order) - 1)]])
        distance = np.abs(place[candidates] - mine)
        nearest = candidates[distance.argmin(axis=0), np.arange(len(cloud))]
        near = distance.min(axis=0) <= np.maximum(2 * hits.rms[nearest], 3.0)
        clouds.append(cloud[near])
        found.append(nearest[near])
        wires.append(at_wire[cloud[near]])
        weights.append((weight * charge.charge[cloud[near]]).astype(np.float32))
    return np.concatenate(clouds), np.concatenate(found), np.concatenate(wires), np.concatenate(weights)


def _place(channel: NDArray[np.integer], tick: NDArray[np.floating]) -> NDArray[np.float64]:
    """Give one ascending number for channel and time."""
    return channel.astype(np.float64) * _MOST_TICKS + tick


def _heaviest(
    hit: NDArray[np.intp], what: NDArray[np.int64], weight: NDArray[np.float32]
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Give for every hit that occurs the value of `what` with most weight."""
    order = np.lexsort((what, hit))
    hit, what = hit[order], what[order]
    starts = np.flatnonzero(np.concatenate([[True], (np.diff(hit) != 0) | (np.diff(what) != 0)]))
    total = np.add.reduceat(weight[order].astype(np.float64), starts)
    hit, what = hit[starts], what[starts]
    order = np.lexsort((-total, hit))
    first, index = np.unique(hit[order], return_index=True)
    return first, what[order][index]
