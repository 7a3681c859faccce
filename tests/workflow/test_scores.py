"""Any model: scores of a known linear model prove where every pixel of every patch stands."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest

from protosonic.detectors import load_detector
from support import reference
from support.campaign import CampaignRun
from support.models import linear_weights, write_linear_model

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
    found = np.stack([hits[name].to_numpy() for name in SCORES], axis=1)
    assert len(found) > 100
    assert np.ptp(expected) > 1e-3  # the model does see something
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.fixture
def linear_campaign(make_campaign, tmp_path):
    weights = linear_weights()
    model = write_linear_model(tmp_path / "linear.onnx", weights)

    def run(**config) -> tuple[CampaignRun, np.ndarray]:
        campaign = make_campaign(model={"path": str(model)}, **config)
        campaign.run()
        campaign.verify()
        return campaign, weights

    return run


def test_scores_of_every_hit_equal_an_independent_computation(linear_campaign, simulated):
    campaign, weights = linear_campaign(inputs=[{"path": f"{simulated}/*.h5"}])
    hits = campaign.hits()
    for number, path in enumerate(sorted(simulated.glob("*.h5"))):
        for entry in range(2):
            event = hits.filter(pa.compute.equal(hits["event"], number * 2 + entry + 1))
            waveforms = native_waveforms(path, entry)
            assert_scores(event, expected_scores(event, waveforms, 6000, "protodune-sp", weights))


@pytest.mark.realdata
def test_scores_on_detector_data_equal_an_independent_computation(linear_campaign, realdata):
    path = realdata / "wire-cell-toolkit" / "protodunehd-sp-frames-anode1.tar.bz2"
    campaign, weights = linear_campaign(
        inputs=[{"path": str(path), "detector": "protodune-hd", "charge_scale": 1e-3, "run": 27409}],
        preprocess={"profile": "protodune-hd"},
    )
    with tarfile.open(path) as archive:
        frame, channels = (
            np.load(io.BytesIO(archive.extractfile(f"{kind}_gauss1_40896.npy").read()))
            for kind in ("frame", "channels")
        )
    waveforms = {int(channel): row * np.float32(1e-3) for channel, row in zip(channels, frame, strict=True)}
    hits = campaign.hits()
    by_space = {
        name: int(pa.compute.sum(pa.compute.equal(hits["wire_space"], name)).as_py())
        for name in ("wire", "channel")
    }
    assert 2900 < by_space["wire"] < 3050  # W; U and V stay in channel space
    assert_scores(hits, expected_scores(hits, waveforms, 5999, "protodune-hd", weights))


@pytest.mark.parametrize(
    "names",
    [
        ("em_trk_none_netout/Softmax", "michel_netout/Sigmoid"),
        ("em_trk_none_netout/Softmax:0", "michel_netout:0"),
    ],
)
def test_tensor_names_of_converted_models_are_taken(make_campaign, simulated, tmp_path, names):
    weights = linear_weights()
    path = min(simulated.glob("*.h5"))
    tables = []
    for folder, output_names, input_name in (
        ("contract", ("em_trk_none_netout", "michel_netout"), "main_input"),
        ("converted", names, "main_input:0"),
    ):
        model = write_linear_model(
            tmp_path / f"{folder}.onnx", weights, output_names=output_names, input_name=input_name
        )
        campaign = make_campaign(folder, inputs=[{"path": str(path)}], model={"path": str(model)})
        campaign.run()
        tables.append(campaign.hits())
    assert tables[0].equals(tables[1])


def test_larsoft_duplicates_get_the_scores_of_an_empty_patch(make_campaign, tmp_path, simulated):
    weights = linear_weights()
    model = write_linear_model(tmp_path / "linear.onnx", weights)
    tables = {}
    for policy in ("correct", "larsoft"):
        campaign = make_campaign(
            policy,
            inputs=[{"path": f"{simulated}/*.h5"}],
            model={"path": str(model)},
            preprocess={"duplicate_patches": policy},
        )
        campaign.run()
        tables[policy] = campaign.hits()
    flags = tables["correct"]["duplicate_patch"].to_numpy()
    assert 0 < flags.sum() < len(flags)
    assert tables["larsoft"]["duplicate_patch"].equals(tables["correct"]["duplicate_patch"])
    for name in SCORES:
        correct, larsoft = (tables[policy][name].to_numpy() for policy in ("correct", "larsoft"))
        assert np.all(larsoft[flags] == 0.5)
        assert np.any(correct[flags] != 0.5)
        np.testing.assert_allclose(larsoft[~flags], correct[~flags], atol=1e-6)
