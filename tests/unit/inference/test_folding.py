"""Weights in 8 bits: the graph holds them, and everything that reads graphs takes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from protosonic.inference.architecture import SHAPES, eight_bit_steps, published_model
from protosonic.inference.cpu_backend import load_cpu_backend
from protosonic.inference.folding import fold_constants
from protosonic.inference.golden import golden_patches
from protosonic.inference.int8_backend import Int8Backend
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.inference.sparse_engine.recognise import recognise


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {name: rng.normal(0, 0.02, shape).astype(np.float32) for name, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def file(weights: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("eight-bits") / "model.onnx"
    onnx.save(published_model(weights, "test", {"mark": "kept"}, eight_bits=True), path)
    return path


@pytest.fixture(scope="module")
def rounded(weights: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network with float32 weights that stand where 8 bits can."""
    steps, scale = eight_bit_steps(weights["dense_1_w"])
    path = tmp_path_factory.mktemp("float32") / "model.onnx"
    onnx.save(published_model(weights | {"dense_1_w": steps * scale}, "test", {}), path)
    return path


def test_rounding_is_by_output_and_close(weights: dict[str, np.ndarray]) -> None:
    steps, scale = eight_bit_steps(weights["dense_1_w"])
    assert steps.dtype == np.int8
    assert scale.shape == (128,)
    assert (np.abs(steps).max(axis=0) == 127).all()
    assert (np.abs(steps * scale - weights["dense_1_w"]) <= 0.5001 * scale).all()


def test_the_file_is_a_quarter_as_large(file: Path, rounded: Path) -> None:
    assert file.stat().st_size < 0.26 * rounded.stat().st_size


def test_scores_are_those_of_the_rounded_weights(file: Path, rounded: Path) -> None:
    patches = golden_patches()
    scores = [OnnxRuntimeBackend(path, threads=1).infer(patches) for path in (file, rounded)]
    np.testing.assert_allclose(*scores, atol=1e-6)


def test_the_sparse_engine_knows_the_network(file: Path) -> None:
    assert recognise(file) is not None
    patches = golden_patches()
    engine = load_cpu_backend(file, threads=1)
    assert engine.engine == "sparse"
    np.testing.assert_allclose(
        engine.infer(patches), OnnxRuntimeBackend(file, threads=1).infer(patches), atol=1e-5
    )


def test_eight_bit_computation_takes_such_weights(file: Path, rounded: Path) -> None:
    """Its dense layers are found; else it would compute exactly."""
    patches = golden_patches()
    backends = [Int8Backend(path, 1, 64) for path in (file, rounded)]
    scores = [backend._fast.infer(patches) for backend in backends]
    np.testing.assert_allclose(*scores, atol=1e-5)
    assert np.abs(scores[0] - backends[0].infer(patches)).max() > 0


def test_folding_leaves_a_plain_graph_that_computes_the_same(file: Path, tmp_path: Path) -> None:
    model = onnx.load(file)
    folded = fold_constants(model)
    onnx.checker.check_model(folded)
    assert {"Cast", "Mul"}.isdisjoint(node.op_type for node in folded.graph.node)
    assert [tensor.data_type for tensor in folded.graph.initializer if tensor.name == "dense_1_w"] == [
        onnx.TensorProto.FLOAT
    ]
    assert "dense_1_q" not in {tensor.name for tensor in folded.graph.initializer}
    assert [entry.value for entry in folded.metadata_props] == ["kept"]
    onnx.save(folded, tmp_path / "folded.onnx")
    patches = golden_patches()
    scores = [OnnxRuntimeBackend(path, threads=1).infer(patches) for path in (file, tmp_path / "folded.onnx")]
    np.testing.assert_allclose(*scores, atol=1e-6)
    assert {node.op_type for node in model.graph.node} >= {"Cast", "Mul"}, "the model itself stays"


def test_a_graph_without_such_constants_stays_as_it_is(rounded: Path) -> None:
    model = onnx.load(rounded)
    assert fold_constants(model) == model
