"""The published architecture with seeded random weights.

Conv 48 × 5×5 valid, ReLU, dense 128, ReLU, dense 32, ReLU, softmax over (track, em, none) and sigmoid (michel);
11,900,420 parameters (larrecodnn ``scripts/train_cnn.py``, arXiv:2203.17053). It costs what the trained network costs
and its scores mean nothing: whoever shows them must say that it is untrained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from protosonic.publish import publish

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["UNTRAINED_MARK", "is_untrained", "untrained_model", "write_untrained_model"]

UNTRAINED_MARK = "protosonic.untrained"
_OPSET = 17
_IR_VERSION = 8


def untrained_model(seed: int = 1) -> onnx.ModelProto:
    """Build the network with Glorot-uniform weights and small biases that depend on the seed only."""
    rng = np.random.Generator(np.random.PCG64(seed))
    weights = {
        "conv_w": _glorot(rng, (48, 1, 5, 5), 25, 48 * 25),
        "conv_b": _small(rng, 48),
        "dense_1_w": _glorot(rng, (48 * 44 * 44, 128), 48 * 44 * 44, 128),
        "dense_1_b": _small(rng, 128),
        "dense_2_w": _glorot(rng, (128, 32), 128, 32),
        "dense_2_b": _small(rng, 32),
        "em_trk_none_w": _glorot(rng, (32, 3), 32, 3),
        "em_trk_none_b": _small(rng, 3),
        "michel_w": _glorot(rng, (32, 1), 32, 1),
        "michel_b": _small(rng, 1),
    }
    constants = {"nchw": np.array([-1, 1, 48, 48], np.int64)}
    node = helper.make_node
    nodes = [
        node("Reshape", ["main_input", "nchw"], ["image"]),
        node("Conv", ["image", "conv_w", "conv_b"], ["conv"], kernel_shape=[5, 5]),
        node("Relu", ["conv"], ["conv_relu"]),
        node("Flatten", ["conv_relu"], ["features"], axis=1),
        node("Gemm", ["features", "dense_1_w", "dense_1_b"], ["dense_1"]),
        node("Relu", ["dense_1"], ["dense_1_relu"]),
        node("Gemm", ["dense_1_relu", "dense_2_w", "dense_2_b"], ["dense_2"]),
        node("Relu", ["dense_2"], ["dense_2_relu"]),
        node("Gemm", ["dense_2_relu", "em_trk_none_w", "em_trk_none_b"], ["em_trk_none"]),
        node("Softmax", ["em_trk_none"], ["em_trk_none_netout"], axis=1),
        node("Gemm", ["dense_2_relu", "michel_w", "michel_b"], ["michel"]),
        node("Sigmoid", ["michel"], ["michel_netout"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "emtrkmichel_untrained",
        [value("main_input", TensorProto.FLOAT, ["N", 48, 48, 1])],
        [
            value("em_trk_none_netout", TensorProto.FLOAT, ["N", 3]),
            value("michel_netout", TensorProto.FLOAT, ["N", 1]),
        ],
        [numpy_helper.from_array(array, name) for name, array in (weights | constants).items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="protosonic"
    )
    model.ir_version = _IR_VERSION
    helper.set_model_props(model, {UNTRAINED_MARK: f"seed {seed}"})
    return model


def write_untrained_model(path: Path, seed: int = 1) -> None:
    """Write :func:`untrained_model` to an ONNX file; the bytes depend on the seed only."""
    with publish(path) as part:
        part.write_bytes(untrained_model(seed).SerializeToString(deterministic=True))


def is_untrained(path: Path) -> bool:
    """Whether an ONNX file carries the mark of the untrained network."""
    model = onnx.load(path, load_external_data=False)
    return any(entry.key == UNTRAINED_MARK for entry in model.metadata_props)


def _glorot(
    rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int
) -> NDArray[np.float32]:
    limit = np.float32(np.sqrt(6 / (fan_in + fan_out)))
    return (rng.random(shape, dtype=np.float32) * 2 - 1) * limit


def _small(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Biases that are not zero, so that no test can pass by leaving them out."""
    return (rng.random(n, dtype=np.float32) - np.float32(0.5)) * np.float32(0.1)
