"""Local shape features of hits, for the classical baseline.

All are computed on hits, without the image: the hit itself, how crowded its surroundings are, and whether its
neighbours lie on a line. Distances are in wire pitches; time is turned into them with the drift speed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["FEATURE_NAMES", "hit_features"]

PITCHES_PER_TICK = 0.8 / 4.79
"""A tick of 0.5 µs at 1.6 mm/µs is 0.8 mm; wires are 4.79 mm apart (ProtoDUNE, plane W)."""
NEIGHBOURS = 40
_RADII = (2.0, 4.0, 8.0, 16.0)
_COUNT_RADII = (12.0, 24.0)
_LINE_SIZES = (6, 15, NEIGHBOURS)
_DISTANCE_RANKS = (1, 3, 10, 30)
_FAR = 100.0

FEATURE_NAMES = (
    "rms",
    "peak_amplitude",
    "integral",
    *(f"distance_{rank}" for rank in _DISTANCE_RANKS),
    *(f"hits_within_{radius:g}" for radius in (*_RADII, *_COUNT_RADII)),
    *(f"charge_within_{radius:g}" for radius in _RADII),
    *(f"wires_within_{radius:g}" for radius in _RADII[1:]),
    *(f"{what}_{size}" for size in _LINE_SIZES for what in ("linearity", "width", "line_distance", "slope")),
    "mean_rms",
    "spread_rms",
    "mean_amplitude",
    "spread_amplitude",
    "asymmetry",
)
"""Names of the columns of :func:`hit_features`."""


def hit_features(hits: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Compute the features of all hits of one event.

    Parameters
    ----------
    hits
        Columns ``tpc``, ``plane``, ``wire``, ``peak_time``, ``rms``, ``peak_amplitude`` and ``integral``. Neighbours
        are sought in the same plane of the same TPC.

    Returns
    -------
    float32 [hits, features].
    """
    features = np.zeros((len(hits["wire"]), len(FEATURE_NAMES)), np.float32)
    group = hits["tpc"].astype(np.int64) * 4 + hits["plane"]
    for key in np.unique(group).tolist():
        here = np.flatnonzero(group == key)
        features[here] = _features_of_plane({name: column[here] for name, column in hits.items()})
    return features


def _features_of_plane(hits: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    place = np.stack([hits["wire"].astype(np.float64), hits["peak_time"] * PITCHES_PER_TICK], axis=1)
    n = len(place)
    tree = cKDTree(place)
    # The first neighbour is the hit itself. Where there are fewer, the distance is infinite and the index n.
    found = tree.query(place, k=NEIGHBOURS + 1, distance_upper_bound=_FAR)
    distance, neighbour = (np.asarray(part)[:, 1:] for part in found)
    is_there = np.isfinite(distance)
    near = np.where(is_there, neighbour, 0)
    columns: list[NDArray[Any]] = [hits["rms"], hits["peak_amplitude"], hits["integral"]]
    columns += [np.minimum(distance[:, rank - 1], _FAR) for rank in _DISTANCE_RANKS]
    columns += [(distance <= radius).sum(axis=1) for radius in _RADII]
    columns += [
        np.asarray(tree.query_ball_point(place, radius, return_length=True)) for radius in _COUNT_RADII
    ]
    charge = np.append(hits["integral"], 0.0)[np.where(is_there, neighbour, n)]
    columns += [np.where(distance <= radius, charge, 0).sum(axis=1) for radius in _RADII]
    offset = np.where(is_there[..., None], place[near] - place[:, None, :], 0.0)
    for radius in _RADII[1:]:
        wires = np.where(distance <= radius, offset[..., 0], 0.0)
        columns.append(wires.max(axis=1) - wires.min(axis=1))
    for size in _LINE_SIZES:
        columns += _line(offset[:, :size], is_there[:, :size])
    number = np.maximum(is_there.sum(axis=1), 1)
    for name in ("rms", "peak_amplitude"):
        values = np.where(is_there, hits[name].astype(np.float64)[near], 0.0)
        mean = values.sum(axis=1) / number
        spread = np.where(is_there, (values - mean[:, None]) ** 2, 0.0).sum(axis=1) / number
        columns += [mean, np.sqrt(spread)]
    middle = offset.sum(axis=1) / number[:, None]
    columns.append(np.hypot(middle[:, 0], middle[:, 1]))  # large at the end of a track
    return np.stack(columns, axis=1).astype(np.float32)


def _line(offset: NDArray[np.float64], is_there: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Fit a line to the neighbours of each hit: how straight, how wide, how far the hit is from it, how steep."""
    number = np.maximum(is_there.sum(axis=1), 1)
    mean = offset.sum(axis=1) / number[:, None]
    centred = np.where(is_there[..., None], offset - mean[:, None, :], 0.0)
    xx, yy = ((centred[..., axis] ** 2).sum(axis=1) / number for axis in (0, 1))
    xy = (centred[..., 0] * centred[..., 1]).sum(axis=1) / number
    root = np.hypot((xx - yy) / 2, xy)
    large, small = (xx + yy) / 2 + root, np.maximum((xx + yy) / 2 - root, 0.0)
    angle = 0.5 * np.arctan2(2 * xy, xx - yy)
    along = np.cos(angle), np.sin(angle)
    return [
        1 - np.sqrt(small / np.maximum(large, 1e-12)),
        np.sqrt(small),
        np.abs(mean[:, 0] * along[1] - mean[:, 1] * along[0]),
        np.abs(along[1]),
    ]
