"""What a campaign with a linear model must give: scores of every hit, from the waveforms, without protosonic's images."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa

from protosonic.detectors import load_detector
from support import reference

SCORES = ("track", "em", "none", "michel")


def native_waveforms(path: Path, entry: int) -> dict[int, np.ndarray]:
    """Read the waveforms of an event as docs/formats.md describes them, without protosonic."""
    with h5py.File(path) as file:
        first, last = file["events/waveform_offset"][entry : entry + 2]
        n_ticks = int(file["events/n_ticks"][entry])
        values, starts = file["values/charge"][()], file["rois/start"][()]
        roi_offset, value_offset = file["waveforms/roi_offset"][()], file["rois/value_offset"][()]
        dense = {}
        for row in range(first, last):
            samples = np.zeros(n_ticks)
            for roi in range(roi_offset[row], roi_offset[row + 1]):
                charge = values[value_offset[roi] : value_offset[roi + 1]]
                samples[starts[roi] : starts[roi] + len(charge)] = charge
            dense[int(file["waveforms/channel"][row])] = samples
    return dense


def expected_scores(
    hits: pa.Table, waveforms: dict[int, np.ndarray], n_ticks: int, detector: str, weights: np.ndarray
) -> np.ndarray:
    """Scores of the linear model for all hits of one event, from the waveforms and the published description."""
    geometry = load_detector(detector)
    columns = {name: hits[name].to_numpy(zero_copy_only=False) for name in hits.column_names}
    expected = np.empty((len(hits), 4))
    for tpc, plane, space in sorted(
        set(zip(columns["tpc"], columns["plane"], columns["wire_space"], strict=True))
    ):
        here = (columns["tpc"] == tpc) & (columns["plane"] == plane) & (columns["wire_space"] == space)
        if space == "wire":
            channels = geometry.tables[tpc, plane].tolist()
        else:
            first, count = geometry.units[geometry.unit_of_tpc(tpc)].channels[plane]
            channels = list(range(first, first + count))
        image = reference.plane_image(waveforms, channels, plane, n_ticks)
        patches = reference.patches(image, columns["wire"][here], columns["peak_time"][here])
        expected[here] = 0.5 + np.tensordot(patches, weights, axes=([1, 2], [1, 2]))
    return expected


def assert_scores(hits: pa.Table, expected: np.ndarray) -> None:
    """The scores of these hits are the expected ones, and they do depend on the patches."""
    found = np.stack([hits[name].to_numpy() for name in SCORES], axis=1)
    assert len(found) > 100
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-5)
