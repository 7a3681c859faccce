"""The published architecture as an ONNX graph.

Conv 48 × 5×5 valid, ReLU, dense 128, ReLU, dense 32, ReLU, softmax over (track, em, none) and sigmoid (michel);
11,900,420 parameters (larrecodnn ``scripts/train_cnn.py``, arXiv:2203.17053), with the tensor names of the model contract.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx
    from numpy.typing import NDArray

__all__ = ["SHAPES", "eight_bit_steps", "published_model"]

SHAPES: dict[str, tuple[int, ...]] = {
    "conv_w": (48, 1, 5, 5),
    "conv_b": (48,),
    "dense_1_w": (48 * 44 * 44, 128),
    "dense_1_b": (128,),
    "dense_2_w": (128, 32),
    "dense_2_b": (32,),
    "em_trk_none_w": (32, 3),
    "em_trk_none_b": (3,),
    "michel_w": (32, 1),
    "michel_b": (1,),
}
"""Name → shape of each array of weights, float32; dense weights are [inputs, outputs], inputs as feature, row, column."""
_OPSET = 17
_IR_VERSION = 8


def eight_bit_steps(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round weights [inputs, outputs] to 255 levels for each output; their product with the scale [outputs] is close."""
    scale = (np.maximum(np.abs(weights).max(axis=0), 1e-12) / 127).astype(np.float32)
    return np.rint(weights / scale).astype(np.int8), scale


def published_model(
    weights: Mapping[str, NDArray[np.float32]],
    name: str,
    properties: Mapping[str, str],
    *,
    eight_bits: bool = False,
) -> onnx.ModelProto:
    """Build the network from its weights.

    Parameters
    ----------
    weights
        One array for each of :data:`SHAPES`.
    name
        Name of the graph.
    properties
        Metadata.
    eight_bits
        Store the first dense layer, 99.96 % of the parameters, as int8 with a scale for each output; the graph turns
        it back to float32, which ONNX Runtime does once, when it loads the file.
    """
    constants: dict[str, NDArray[np.generic]] = {"nchw": np.array([-1, 1, 48, 48], np.int64)}
    node = helper.make_node
    nodes = []
    for key, array in weights.items():
        if eight_bits and key == "dense_1_w":
            constants["dense_1_q"], constants["dense_1_scale"] = eight_bit_steps(array)
            nodes.append(node("Cast", ["dense_1_q"], ["dense_1_steps"], to=TensorProto.FLOAT))
            nodes.append(node("Mul", ["dense_1_steps", "dense_1_scale"], ["dense_1_w"]))
        else:
            constants[key] = array.astype(np.float32)
    nodes += [
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
        name,
        [value("main_input", TensorProto.FLOAT, ["N", 48, 48, 1])],
        [
            value("em_trk_none_netout", TensorProto.FLOAT, ["N", 3]),
            value("michel_netout", TensorProto.FLOAT, ["N", 1]),
        ],
        [numpy_helper.from_array(array, key) for key, array in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="protosonic"
    )
    model.ir_version = _IR_VERSION
    helper.set_model_props(model, dict(properties))
    return model
