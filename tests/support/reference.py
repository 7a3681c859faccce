"""A second implementation of the preprocessing, for tests only: dense arrays, plain loops, nothing from protosonic.

It follows the published description of DataProviderAlg and EmTrackMichelId step by step, in double precision, for the
profile protodune-sp-2021.
"""

from __future__ import annotations

import math

import numpy as np

AMPLITUDE = (1.2e-3 / 0.9033e-3, 1.2e-3 / 1.0287e-3, 1.2e-3 / 0.8800e-3)
DRIFT_WINDOW = 6
PATCH = 48


def lifetime_factors(n_ticks: int) -> np.ndarray:
    return np.array([math.exp((tick - 500) * 0.5 / 35000.0) for tick in range(n_ticks)])


def plane_image(
    waveforms: dict[int, np.ndarray], channels: list[int], plane: int, n_ticks: int
) -> np.ndarray:
    """Dense image [rows, columns] of one plane; `waveforms` maps a channel to its dense samples."""
    n_columns = n_ticks // DRIFT_WINDOW
    image = np.zeros((len(channels), n_columns))
    factors = lifetime_factors(n_ticks)
    for row, channel in enumerate(channels):
        samples = waveforms.get(channel)
        if samples is None or len(samples) < n_ticks:
            continue
        corrected = (samples[:n_ticks] * factors)[: n_columns * DRIFT_WINDOW]
        mean = corrected.reshape(n_columns, DRIFT_WINDOW).sum(axis=1) / DRIFT_WINDOW
        image[row] = -5.0 + 0.5 * (np.clip(mean * AMPLITUDE[plane], -10.0, 30.0) + 10.0)
    return image


def patch(image: np.ndarray, wire: int, peak_time: float) -> np.ndarray:
    """The 48 × 48 patch with the hit at [24][24]; zero outside of the image."""
    column = math.floor(np.float32(peak_time) / np.float32(DRIFT_WINDOW))
    cut = np.zeros((PATCH, PATCH))
    for i in range(PATCH):
        for j in range(PATCH):
            row, col = wire - 24 + i, column - 24 + j
            if 0 <= row < image.shape[0] and 0 <= col < image.shape[1]:
                cut[i, j] = image[row, col]
    return cut


def patches(image: np.ndarray, wires: np.ndarray, peak_times: np.ndarray) -> np.ndarray:
    """All patches of a plane; the padding is made once, the rest as :func:`patch`."""
    padded = np.pad(image, PATCH)
    columns = np.floor(peak_times.astype(np.float32) / np.float32(DRIFT_WINDOW)).astype(int)
    return np.stack(
        [
            padded[w + 24 : w + 24 + PATCH, c + 24 : c + 24 + PATCH]
            for w, c in zip(wires, columns, strict=True)
        ]
    )
