"""The sparse engine gives the scores of ONNX Runtime on whole patches, whatever the image and the hits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest

from protosonic.inference.sparse_engine import groups
from protosonic.inference.sparse_engine.engine import Kernel, SparseEngine
from protosonic.inference.sparse_engine.groups import Plane
from protosonic.inference.sparse_engine.weights import CnnWeights

from .graphs import PatchByPatch

TOLERANCE = 1e-6


def sparse_image(shape: tuple[int, int], filled: float, seed: int, background: float = 0.0) -> np.ndarray:
    """An image of which a share is filled, with values as far from the background as real ones."""
    rng = np.random.default_rng(seed)
    image = np.full(shape, background, np.float32)
    pixels = rng.random(shape) < filled
    image[pixels] = rng.normal(0, 3, int(pixels.sum())).astype(np.float32)
    return image


def some_hits(shape: tuple[int, int], n: int, seed: int, margin: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = rng.integers(-margin, shape[0] + margin, n).astype(np.int32)
    return rows, rng.integers(-margin, shape[1] + margin, n).astype(np.int32)


def check(
    weights: CnnWeights,
    reference: PatchByPatch,
    kernels: dict[str, Kernel],
    plane: Plane,
    background: float = 0.0,
) -> None:
    expected = reference.scores(*plane, background)
    for name, kernel in kernels.items():
        scores = SparseEngine(weights, background, kernel=kernel).scores(*plane)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, expected, rtol=0, atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("filled", [0.0, 0.002, 0.05, 1.0])
def test_scores_are_those_of_whole_patches(
    weights: CnnWeights, reference: PatchByPatch, kernels: dict[str, Kernel], filled: float
) -> None:
    shape = (130, 200)
    plane = Plane(sparse_image(shape, filled, 1), *some_hits(shape, 150, 2))
    check(weights, reference, kernels, plane)


@pytest.mark.parametrize("shape", [(1, 1), (3, 300), (60, 32), (70, 64), (48, 48)])
def test_hits_at_and_beyond_the_borders_see_background_outside(
    weights: CnnWeights, reference: PatchByPatch, kernels: dict[str, Kernel], shape: tuple[int, int]
) -> None:
    plane = Plane(sparse_image(shape, 0.3, 3), *some_hits(shape, 60, 4, margin=60))
    check(weights, reference, kernels, plane)


def test_a_hit_at_the_very_border_and_one_at_the_end_of_the_numbers(
    weights: CnnWeights, reference: PatchByPatch, kernels: dict[str, Kernel]
) -> None:
    rows = np.array([0, 0, 79, 79, 40, -24, 103, 2**30, -(2**30)], np.int32)
    columns = np.array([0, 89, 0, 89, 45, 113, -24, 5, 2**30], np.int32)
    check(weights, reference, kernels, Plane(sparse_image((80, 90), 0.4, 5), rows, columns))


@pytest.mark.parametrize("background", [2.5, -1.0, 0.1])
def test_another_background_fills_the_image_and_its_outside(
    weights: CnnWeights, reference: PatchByPatch, kernels: dict[str, Kernel], background: float
) -> None:
    image = sparse_image((90, 80), 0.05, 6, np.float32(background))
    check(weights, reference, kernels, Plane(image, *some_hits((90, 80), 60, 7, margin=30)), background)


def test_hits_at_the_same_place_get_the_same_scores_in_their_order(
    weights: CnnWeights, reference: PatchByPatch, kernels: dict[str, Kernel]
) -> None:
    image = sparse_image((100, 100), 0.05, 8)
    rows, columns = some_hits((100, 100), 20, 9)
    order = np.random.default_rng(10).integers(0, 20, 100)
    plane = Plane(image, rows[order], columns[order])
    check(weights, reference, kernels, plane)
    scores = SparseEngine(weights, 0.0).scores(*plane)
    first = [order.tolist().index(place) for place in order]
    np.testing.assert_array_equal(scores, scores[first])


def test_no_hits_and_no_planes_give_no_scores(weights: CnnWeights) -> None:
    engine = SparseEngine(weights, 0.0)
    nothing = np.empty(0, np.int32)
    assert engine.scores(np.zeros((5, 5), np.float32), nothing, nothing).shape == (0, 4)
    assert engine.scores(np.zeros((0, 0), np.float32), nothing, nothing).shape == (0, 4)
    assert engine.scores_of_planes([]) == []


def several_planes() -> list[Plane]:
    shapes = [(150, 120), (40, 300), (10, 10), (200, 64)]
    planes = [
        Plane(sparse_image(shape, 0.03, seed), *some_hits(shape, 25 * seed, seed))
        for seed, shape in enumerate(shapes)  # no hits on the first
    ]
    return [*planes, Plane(sparse_image((60, 60), 1.0, 5), *some_hits((60, 60), 20, 6))]


@pytest.mark.parametrize(
    "limits", [{"MAX_HITS": 30}, {"MAX_ACTIVE": 3000}, {"MAX_PIXELS": 1}, {"MAX_HITS": 50, "MAX_ACTIVE": 1}]
)
def test_scores_do_not_depend_on_how_hits_are_grouped(
    weights: CnnWeights, kernels: dict[str, Kernel], monkeypatch: pytest.MonkeyPatch, limits: dict[str, int]
) -> None:
    planes = several_planes()
    for kernel in kernels.values():
        engine = SparseEngine(weights, 0.0, kernel=kernel)
        expected = np.concatenate(engine.scores_of_planes(planes))
        with monkeypatch.context() as patch:
            for name, limit in limits.items():
                patch.setattr(groups, name, limit)
            np.testing.assert_allclose(
                np.concatenate(engine.scores_of_planes(planes)), expected, rtol=0, atol=TOLERANCE
            )
        alone = np.concatenate([engine.scores(*plane) for plane in planes])
        np.testing.assert_allclose(alone, expected, rtol=0, atol=TOLERANCE)


def test_planes_keep_their_order(weights: CnnWeights, reference: PatchByPatch) -> None:
    planes = several_planes()[1:]
    for scores, plane in zip(SparseEngine(weights, 0.0).scores_of_planes(planes), planes, strict=True):
        np.testing.assert_allclose(scores, reference.scores(*plane, 0.0), rtol=0, atol=TOLERANCE)


def test_threads_inside_and_outside_change_nothing(
    weights: CnnWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "MAX_HITS", 20)
    planes = several_planes()
    expected = SparseEngine(weights, 0.0).scores_of_planes(planes)
    with closing(SparseEngine(weights, 0.0, threads=2)) as engine, ThreadPoolExecutor(3) as callers:
        for found in callers.map(engine.scores_of_planes, [planes] * 4):
            for scores, wanted in zip(found, expected, strict=True):
                np.testing.assert_array_equal(scores, wanted)


def test_an_error_in_the_middle_reaches_the_caller(weights: CnnWeights) -> None:
    plane = Plane(np.zeros((5, 5), np.float32), np.zeros(2, np.int32), np.zeros(3, np.int32))
    with closing(SparseEngine(weights, 0.0, threads=2)) as engine:
        with pytest.raises(ValueError, match="broadcast"):
            engine.scores_of_planes([*several_planes(), plane])
        assert len(engine.scores_of_planes(several_planes())) == 5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_shows_in_the_scores_of_the_hits_that_see_it(
    weights: CnnWeights, kernels: dict[str, Kernel], value: float
) -> None:
    image = sparse_image((200, 200), 0.05, 11)
    image[20, 20] = value
    for kernel in kernels.values():
        scores = SparseEngine(weights, 0.0, kernel=kernel).scores(
            image, np.array([20, 150]), np.array([20, 150])
        )
        assert not np.isfinite(scores[0]).all()
        assert np.isfinite(scores[1]).all()


def test_patches_stacked_to_an_image_are_scored_as_patches(
    weights: CnnWeights, reference: PatchByPatch, kernels: dict[str, Kernel]
) -> None:
    image = sparse_image((48 * 30, 48), 0.1, 12)
    check(weights, reference, kernels, Plane(image, np.arange(30) * 48 + 24, np.full(30, 24)))
