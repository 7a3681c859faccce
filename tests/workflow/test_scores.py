"""Any model: scores of a known linear model prove where every pixel of every patch stands."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pyarrow as pa
import pytest

from support.expected import SCORES, assert_scores, expected_scores, native_waveforms
from support.models import linear_weights, write_linear_model


def test_scores_of_every_hit_equal_an_independent_computation(linear, simulated):
    hits = linear.hits()
    n_compared = 0
    for number, path in enumerate(sorted(simulated.glob("*.h5"))):
        for entry in range(2):
            event = hits.filter(pa.compute.equal(hits["event"], number * 2 + entry + 1))
            waveforms = native_waveforms(path, entry)
            assert_scores(event, expected_scores(event, waveforms, 6000, "protodune-sp", linear_weights()))
            n_compared += len(event)
    assert n_compared == len(hits)


@pytest.mark.realdata
def test_scores_on_detector_data_equal_an_independent_computation(make_campaign, realdata):
    path = realdata / "wire-cell-toolkit" / "protodunehd-sp-frames-anode1.tar.bz2"
    campaign = make_campaign(
        inputs=[{"path": str(path), "detector": "protodune-hd", "charge_scale": 1e-3, "run": 27409}],
        preprocess={"profile": "protodune-hd"},
    )
    campaign.run()
    campaign.verify()
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
    assert_scores(hits, expected_scores(hits, waveforms, 5999, "protodune-hd", linear_weights()))


@pytest.mark.parametrize(
    "names",
    [
        ("em_trk_none_netout/Softmax", "michel_netout/Sigmoid"),
        ("em_trk_none_netout/Softmax:0", "michel_netout:0"),
    ],
)
def test_tensor_names_of_converted_models_are_taken(make_campaign, simulated, linear, tmp_path, names):
    converted = write_linear_model(
        tmp_path / "converted.onnx", linear_weights(), output_names=names, input_name="main_input:0"
    )
    campaign = make_campaign(
        inputs=[{"path": str(min(simulated.glob("*.h5")))}], model={"path": str(converted)}
    )
    campaign.run()
    hits = linear.hits()
    assert campaign.hits().equals(hits.filter(pa.compute.less_equal(hits["event"], 2)))


def test_larsoft_duplicates_get_the_scores_of_an_empty_patch(finished):
    correct = finished.hits()
    finished.config |= {"preprocess": {"duplicate_patches": "larsoft"}}
    finished.run()
    larsoft = finished.hits()
    flags = correct["duplicate_patch"].to_numpy()
    assert 0 < flags.sum() < len(flags)
    assert larsoft["duplicate_patch"].equals(correct["duplicate_patch"])
    for name in SCORES:
        before, after = correct[name].to_numpy(), larsoft[name].to_numpy()
        assert np.all(after[flags] == 0.5)
        assert np.any(before[flags] != 0.5)
        np.testing.assert_allclose(after[~flags], before[~flags], atol=1e-6)
