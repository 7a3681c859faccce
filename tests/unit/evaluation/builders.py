"""Samples with truth, made by hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protosonic.evaluation.sample import Sample


def make_sample(label: list[int], **columns: object) -> Sample:
    """A sample with these labels; other columns by name, else the same value for all."""
    n = len(label)
    defaults = {
        "event": (0, np.int32),
        "tpc": (1, np.int16),
        "plane": (2, np.int8),
        "charge": (30.0, np.float32),
        "in_fiducial": (True, bool),
        "particle": (-1, np.int32),
        "angle": (np.nan, np.float32),
    }
    values = {
        name: np.broadcast_to(np.asarray(columns.get(name, default), dtype), n).copy()
        for name, (default, dtype) in defaults.items()
    }
    return Sample(label=np.array(label, np.int8), **values)


def scores_of_track(track: list[float], michel: float | list[float] = 0.0) -> NDArray[np.float32]:
    """Scores with this track score, the rest of it em, and nothing none."""
    column = np.array(track, np.float32)
    return np.stack(
        [column, 1 - column, np.zeros_like(column), np.broadcast_to(np.float32(michel), len(column))], axis=1
    ).astype(np.float32)
