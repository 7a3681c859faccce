"""Training with PyTorch: repeatable, exported as it computes, calibrated; and as a target of the workflow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.publish import sha256_of
from protosonic.training.calibration import calibrate
from protosonic.training.export import export_model
from protosonic.training.fit import FitOptions, _steps_in_budget, fit
from protosonic.training.network import HitNetwork, classes_of
from protosonic.training.patches import Augmentation, BalancedBatches, PatchStore
from protosonic.training.run import TrainingPlan, train_on
from protosonic.training.sampling import Sampling
from protosonic.training.set_file import EMPTY, VALUE_STEP, TrainingSet
from protosonic.training.simulated import Kind, simulated_set
from support.campaign import CampaignRun

SMALL = (Kind("protodune-sp", 1.0, 4000, vary_conditions=True, stopping_share=0.8),)
TRACK, EM, NONE, MICHEL = range(4)


@pytest.fixture(scope="module")
def sets() -> tuple[TrainingSet, TrainingSet]:
    return simulated_set(3, SMALL, 5, 1, Sampling(), workers=2), simulated_set(
        1, SMALL, 6, 1, Sampling(), workers=1
    )


def options(**changes: object) -> FitOptions:
    return FitOptions(steps=30, batch_size=32, checks=3, validation_hits=500, device="cpu", **changes)  # type: ignore[arg-type]


def test_sets_do_not_depend_on_the_number_of_processes(sets: tuple[TrainingSet, TrainingSet]) -> None:
    again = simulated_set(3, SMALL, 5, 1, Sampling(), workers=1)
    np.testing.assert_array_equal(again.pixel, sets[0].pixel)
    np.testing.assert_array_equal(again.points.label, sets[0].points.label)


def test_patches_are_cut_as_for_scoring(sets: tuple[TrainingSet, TrainingSet]) -> None:
    training_set, _ = sets
    store = PatchStore(training_set, torch.device("cpu"))
    points, images = training_set.points, training_set.images
    index = np.random.default_rng(1).choice(len(points), 200, replace=False)
    first = np.cumsum(images.n_pixels) - images.n_pixels
    patches = store.cut(torch.from_numpy(index)).numpy()
    mirrored = store.cut(torch.from_numpy(index), (torch.full((200,), -1), torch.full((200,), -1))).numpy()
    for patch, turned, point in zip(patches, mirrored, index, strict=True):
        number = points.image[point]
        dense = np.zeros((images.n_wires[number] + 98, images.n_columns[number] + 98), np.float32)
        part = slice(first[number], first[number] + images.n_pixels[number])
        row, column = np.divmod(training_set.pixel[part], images.n_columns[number])
        dense[row + 49, column + 49] = training_set.value[part] * VALUE_STEP
        top, left = points.row[point] + 49, points.column[point] + 49
        np.testing.assert_allclose(patch, dense[top - 24 : top + 24, left - 24 : left + 24], rtol=1e-3)
        # The hit itself stays at [24][24].
        reverse = dense[top - 23 : top + 25, left - 23 : left + 25][::-1, ::-1]
        np.testing.assert_allclose(turned, reverse, rtol=1e-3)


def test_batches_are_balanced(sets: tuple[TrainingSet, TrainingSet]) -> None:
    generator = torch.Generator().manual_seed(1)
    batches = BalancedBatches(
        PatchStore(sets[0], torch.device("cpu")), (0.4, 0.3, 0.1, 0.15, 0.05), generator
    )
    label = torch.cat([batches.draw(500, None)[1] for _ in range(8)]).numpy()
    share = np.bincount(label, minlength=4) / len(label)
    np.testing.assert_allclose(share, (0.4, 0.3, 0.15, 0.15), atol=0.03)
    assert (sets[0].points.kind == EMPTY).any()


def test_augmentation_keeps_the_hit_and_the_range() -> None:
    patches = torch.zeros(64, 48, 48)
    patches[:, 20:28, 24] = 5.0
    changed = Augmentation().apply(patches, torch.Generator().manual_seed(1))
    assert changed.shape == patches.shape
    assert (changed[:, 24, 24] > 1).all()
    assert float(changed.max()) <= 15
    assert not torch.equal(changed[0], changed[1])
    crumbs = (changed[:, :, :20] != 0).float().mean()
    assert 0 < float(crumbs) < 0.01


def test_a_michel_electron_is_electromagnetic() -> None:
    classes, is_michel = classes_of(torch.tensor([TRACK, EM, NONE, MICHEL]))
    assert classes.tolist() == [0, 1, 2, 1]
    assert is_michel.tolist() == [0, 0, 0, 1]


def test_equal_seeds_give_equal_networks(sets: tuple[TrainingSet, TrainingSet]) -> None:
    one, again, other = (fit(*sets, options(seed=seed)) for seed in (1, 1, 2))
    parts = [dict(each.network.named_parameters()) for each in (one, again, other)]
    assert all(torch.equal(parts[0][name], parts[1][name]) for name in parts[0])
    assert not torch.equal(parts[0]["conv.weight"], parts[2]["conv.weight"])
    assert [entry["step"] for entry in one.history] == [10, 20, 30]


def test_training_learns(sets: tuple[TrainingSet, TrainingSet]) -> None:
    history = fit(*sets, FitOptions(steps=150, batch_size=32, checks=3, average=0.95, device="cpu")).history
    assert history[-1]["validation_loss"] < history[0]["validation_loss"]


def test_a_training_of_some_minutes_follows_the_pace() -> None:
    by_time = FitOptions(minutes=10)
    # 40 steps in 4 s after the first 10 in 6 s: 590 s are left, of which a tenth is for checks.
    assert _steps_in_budget(50, 10.0, 0.0, 6.0, by_time) == 50 + 5310
    # Half of the time is over, and the machine has become slow.
    assert _steps_in_budget(310, 306.0, 0.0, 6.0, by_time) == 310 + 264
    assert _steps_in_budget(500, 700.0, 0.0, 6.0, by_time) == 500


def test_a_training_by_time_ends(sets: tuple[TrainingSet, TrainingSet]) -> None:
    by_time = FitOptions(minutes=0.05, batch_size=8, checks=3, validation_hits=200, device="cpu")
    result = fit(*sets, by_time)
    assert result.history[-1]["step"] == result.facts["steps_done"] >= 50


def test_training_ends_where_nothing_gets_better(sets: tuple[TrainingSet, TrainingSet]) -> None:
    result = fit(
        *sets,
        FitOptions(steps=60, checks=20, batch_size=8, validation_hits=200, patience=2, learning_rate=1.0),
    )
    assert result.facts["steps_done"] < 60
    assert len(result.history) < 20


@pytest.mark.parametrize("eight_bits", [False, True])
def test_the_file_computes_what_the_network_computes(tmp_path: Path, eight_bits: bool) -> None:
    torch.manual_seed(3)
    network = HitNetwork().eval()
    export_model(network, tmp_path / "model.onnx", {"a": 1}, eight_bits=eight_bits)
    patches = np.random.default_rng(1).uniform(0, 5, (16, 48, 48)).astype(np.float32)
    with torch.no_grad():
        three, one = network(torch.from_numpy(patches))
    expected = torch.cat([torch.softmax(three, 1), torch.sigmoid(one)[:, None]], dim=1).numpy()
    scores = OnnxRuntimeBackend(tmp_path / "model.onnx", threads=1).infer(patches)
    np.testing.assert_allclose(scores, expected, atol=2e-3 if eight_bits else 1e-5)


def test_calibration_gives_probabilities_and_keeps_the_order() -> None:
    rng = torch.Generator().manual_seed(1)
    torch.manual_seed(3)
    network = HitNetwork()
    hidden = torch.randn(4000, 32, generator=rng)
    with torch.no_grad():
        three, one = network.em_trk_none(hidden) * 10, network.michel(hidden)[:, 0] * 10
    # What the outputs should be is a third as sure, and shifted.
    chance = torch.softmax(three / 3 + torch.tensor([1.0, 0.0, -1.0]), 1)
    label = torch.multinomial(chance, 1, generator=rng)[:, 0]
    facts = calibrate(network, (three, one), label)
    assert facts["slope"][0] == pytest.approx(1 / 3, rel=0.2)
    mean = torch.sigmoid(network.michel(hidden)).detach().mean()
    assert float(mean) < 1e-3, "no hit is michel"
    after = network.em_trk_none(hidden).detach() * 10
    margin_before, margin_after = three[:, 0] - three[:, 1], after[:, 0] - after[:, 1]
    correlation = torch.corrcoef(torch.stack([margin_before, margin_after]))[0, 1]
    assert float(correlation) == pytest.approx(1.0, abs=1e-5)


def test_a_training_writes_its_files(sets: tuple[TrainingSet, TrainingSet], tmp_path: Path) -> None:
    train_on(
        *sets, TrainingPlan(tmp_path / "out", steps=30, batch_size=16, validation_hits=300, device="cpu")
    )
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"model.onnx", "model-float32.onnx", "training.json", "training.png"}
    facts = json.loads((tmp_path / "out" / "training.json").read_text())["facts"]
    assert facts["training"]["events"] == 3
    assert facts["options"]["steps"] == 30
    assert set(facts["figures"]) == {"float32", "eight bits"}


def test_the_workflow_trains_and_evaluates(tmp_path: Path) -> None:
    run = CampaignRun(
        tmp_path,
        {
            "inputs": [{"path": "there-are-none/*.h5"}],
            "inference": {"policy": "cpu-only"},
            "training": {
                "events": 4,
                "validation_events": 1,
                "held_out_events": 1,
                "steps": 100,
                "batch_size": 16,
                "device": "cpu",
            },
        },
    )
    run.run("train")
    folder = run.results / "training"
    evaluation = json.loads((folder / "evaluation" / "evaluation.json").read_text())
    assert sha256_of(folder / "model.onnx")[:16] in json.dumps(evaluation)
