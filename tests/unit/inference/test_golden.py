"""Patches whose scores are known beforehand, and what they give away."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from integration.serving import sparse_patches
from protosonic.inference.bundled import bundled_model
from protosonic.inference.contract import SCORE_NAMES
from protosonic.inference.failure_policy import Action, EndpointError, FailureClass
from protosonic.inference.golden import CANARIES, GOLDEN_PATCHES, NoReference, Reference, golden_patches
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.inference.untrained import write_untrained_model

Scores = NDArray[np.float32]
TOLERANCE = 1e-5
DIGEST = "0eb6c1d637f77496c5bd8ee35111e48057a6b708b276f2b150393130861bc806"


@pytest.fixture(scope="module", params=["untrained", "bundled"])
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> OnnxRuntimeBackend:
    """A trained network is certain about most patches, so that less can be told from its scores."""
    if request.param == "bundled":
        return OnnxRuntimeBackend(bundled_model(), threads=1)
    path = tmp_path_factory.mktemp("network") / "model.onnx"
    write_untrained_model(path, seed=1)
    return OnnxRuntimeBackend(path, threads=1)


@pytest.fixture(scope="module")
def reference(network: OnnxRuntimeBackend) -> Reference:
    return Reference(network.infer, TOLERANCE)


def score_with_canaries(
    reference: Reference, infer: Callable[[Scores], Scores], n: int
) -> tuple[Scores, Scores]:
    """Scores of patches, and those of the request that carries them."""
    patches = sparse_patches(n, seed=n)
    return infer(patches), infer(reference.with_canaries(patches))


def test_the_golden_batch_is_the_same_bytes_everywhere() -> None:
    patches = golden_patches()
    assert patches.shape == (GOLDEN_PATCHES, 48, 48)
    assert hashlib.sha256(patches.astype("<f4").tobytes()).hexdigest() == DIGEST


def test_the_golden_batch_looks_like_images_and_has_no_symmetry() -> None:
    patches = golden_patches()
    assert patches.min() >= -5
    assert patches.max() <= 15
    assert 0.03 < np.count_nonzero(patches) / patches.size < 0.1
    for changed in (
        patches[::-1],
        patches[:, ::-1],
        patches[:, :, ::-1],
        patches.transpose(0, 2, 1),
        np.roll(patches, 1, axis=0),
    ):
        assert not any(np.array_equal(mine, other) for mine, other in zip(patches, changed, strict=True))


@pytest.mark.parametrize("n", [0, 1, 2, 40])
def test_canaries_stand_first_and_last_and_are_taken_off_again(
    reference: Reference, network: OnnxRuntimeBackend, n: int
) -> None:
    patches = sparse_patches(n)
    framed = reference.with_canaries(patches)
    assert framed.shape == (n + CANARIES, 48, 48)
    assert framed.dtype == np.float32
    np.testing.assert_array_equal(framed[1:-1], patches)
    golden = golden_patches()
    first, last = ((golden == canary).all(axis=(1, 2)).nonzero()[0].item() for canary in framed[[0, -1]])
    assert first != last
    np.testing.assert_allclose(
        reference.without_canaries(network.infer(framed), "test"), network.infer(patches), atol=TOLERANCE
    )


def test_the_canaries_differ_and_none_of_both_is_certain(reference: Reference) -> None:
    framed = reference.with_canaries(sparse_patches(1))
    scores = reference.scores
    largest = np.abs(scores[:, None] - scores[None]).max()
    golden = list(golden_patches())
    first, last = (next(i for i, patch in enumerate(golden) if (patch == framed[j]).all()) for j in (0, -1))
    assert np.abs(scores[first] - scores[last]).max() >= largest / 2 > 100 * TOLERANCE
    for row in (first, last):
        assert ((scores[row] > 0.1) & (scores[row] < 0.9)).sum() >= 2


def test_each_class_has_a_say_in_the_golden_batch(reference: Reference) -> None:
    for name in SCORE_NAMES:
        assert np.ptp(reference.scores[:, column(name)]) > 100 * TOLERANCE, name


def column(name: str) -> int:
    return SCORE_NAMES.index(name)


def exchanged(first: str, second: str) -> Callable[[Scores], Scores]:
    def exchange(scores: Scores) -> Scores:
        order = list(range(len(SCORE_NAMES)))
        order[column(first)], order[column(second)] = column(second), column(first)
        return scores[:, order]

    return exchange


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda scores: scores[::-1], id="reversed rows"),
        pytest.param(lambda scores: np.roll(scores, 1, axis=0), id="rows moved by one"),
        pytest.param(lambda scores: np.repeat(scores[:1], len(scores), axis=0), id="the first row for all"),
        pytest.param(exchanged("track", "em"), id="track and em exchanged"),
        pytest.param(exchanged("em", "none"), id="em and none exchanged"),
        pytest.param(exchanged("none", "michel"), id="none and michel exchanged"),
        pytest.param(exchanged("track", "michel"), id="track and michel exchanged"),
        pytest.param(np.zeros_like, id="zeros"),
        pytest.param(lambda scores: np.full_like(scores, np.nan), id="not a number"),
        pytest.param(lambda scores: scores + np.float32(3e-5), id="just outside of the tolerance"),
        pytest.param(lambda scores: scores.astype(np.float16).astype(np.float32), id="half precision"),
    ],
)
def test_wrong_scores_are_given_away(
    reference: Reference, network: OnnxRuntimeBackend, wrong: Callable[[Scores], Scores]
) -> None:
    _, scores = score_with_canaries(reference, network.infer, 30)
    with pytest.raises(EndpointError, match="not those of the local model") as caught:
        reference.without_canaries(wrong(scores), "grpc://somewhere")
    assert caught.value.failure is FailureClass.WRONG_ANSWER
    assert caught.value.action is Action.REFUSE
    assert "grpc://somewhere" in str(caught.value)
    assert "differences of at most 1e-05" in str(caught.value)
    with pytest.raises(EndpointError) as caught:
        reference.check(wrong(reference.scores), "grpc://somewhere")
    assert caught.value.failure is FailureClass.WRONG_MODEL


def test_another_model_is_given_away(reference: Reference, tmp_path: Path) -> None:
    write_untrained_model(tmp_path / "other.onnx", seed=2)
    other = OnnxRuntimeBackend(tmp_path / "other.onnx", threads=1)
    _, scores = score_with_canaries(reference, other.infer, 1)
    with pytest.raises(EndpointError):
        reference.without_canaries(scores, "test")
    with pytest.raises(EndpointError):
        reference.check(other.infer(reference.patches), "test")


def test_a_difference_of_the_tolerance_is_equal_and_a_larger_one_is_not() -> None:
    scores = np.arange(4 * GOLDEN_PATCHES, dtype=np.float32).reshape(-1, 4) / 64
    reference = Reference(lambda patches: scores[: len(patches)], tolerance=1 / 1024)
    assert reference.check(scores, "test") == 0
    assert reference.check(scores - np.float32(1 / 1024), "test") == 1 / 1024
    with pytest.raises(EndpointError):
        reference.check(scores + np.float32(1.001 / 1024), "test")


def test_one_wrong_score_in_the_batch_is_enough(reference: Reference) -> None:
    scores = reference.scores.copy()
    scores[7, 2] += 1e-4
    with pytest.raises(EndpointError, match=r"found 0\.0001"):
        reference.check(scores, "test")


def test_without_a_local_model_nothing_is_added_and_nothing_compared() -> None:
    reference = NoReference()
    patches, scores = sparse_patches(3), np.full((3, 4), 0.9, np.float32)
    assert reference.with_canaries(patches) is patches
    assert reference.without_canaries(scores, "test") is scores
    assert reference.check(scores, "test") is None
    assert len(reference.patches) == GOLDEN_PATCHES
