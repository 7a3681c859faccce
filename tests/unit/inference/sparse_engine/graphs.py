"""The published network as converters write it, and scores by ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from protosonic.inference.untrained import untrained_model

Arrays = dict[str, np.ndarray]


def untrained_weights(seed: int = 1) -> Arrays:
    """The weights of the untrained network by the names that its graph gives them."""
    return {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in untrained_model(seed).graph.initializer
        if tensor.name != "nchw"
    }


def converted_from_tensorflow(weights: Arrays) -> onnx.ModelProto:
    """Channels last, biases added apart, layers that only move, and TensorFlow's names."""
    dense_1 = weights["dense_1_w"].reshape(48, 44, 44, 128).transpose(1, 2, 0, 3).reshape(-1, 128)
    constants = weights | {
        "dense_1_w": np.ascontiguousarray(dense_1),
        "bias": weights["conv_b"].reshape(1, 48, 1, 1),
        "axis": np.array([2], np.int64),
        "flat": np.array([-1, 44 * 44 * 48], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Transpose", ["main_input:0"], ["nchw"], perm=[0, 3, 1, 2]),
        node("Conv", ["nchw", "conv_w"], ["conv"], auto_pad=b"VALID", strides=[1, 1]),
        node("Add", ["conv", "bias"], ["biased"]),
        node("Transpose", ["biased"], ["nhwc"], perm=[0, 2, 3, 1]),
        node("Relu", ["nhwc"], ["relu"]),
        node("Unsqueeze", ["relu", "axis"], ["wide"]),
        node("Squeeze", ["wide", "axis"], ["narrow"]),
        node("Identity", ["narrow"], ["same"]),
        node("Reshape", ["same", "flat"], ["features"]),
    ]
    value = "features"
    for layer in ("dense_1", "dense_2"):
        nodes += [
            node("MatMul", [value, f"{layer}_w"], [f"{layer}/MatMul"]),
            node("Add", [f"{layer}_b", f"{layer}/MatMul"], [f"{layer}/BiasAdd"]),
            node("Relu", [f"{layer}/BiasAdd"], [layer]),
        ]
        value = layer
    outputs = {
        "em_trk_none": ("Softmax", "em_trk_none_netout/Softmax:0"),
        "michel": ("Sigmoid", "michel_netout/Sigmoid:0"),
    }
    for layer, (activation, name) in outputs.items():
        nodes += [
            node("MatMul", [value, f"{layer}_w"], [f"{layer}/MatMul"]),
            node("Add", [f"{layer}/MatMul", f"{layer}_b"], [f"{layer}/BiasAdd"]),
            node(activation, [f"{layer}/BiasAdd"], [name]),
        ]
    return model(nodes, constants, "main_input:0", [name for _, name in outputs.values()])


def converted_from_pytorch(weights: Arrays) -> onnx.ModelProto:
    """Weights [outputs, inputs], and the number of patches taken from the input to flatten."""
    transposed = {
        name: np.ascontiguousarray(array.T) if name.endswith("_w") and array.ndim == 2 else array
        for name, array in weights.items()
    }
    node = helper.make_node
    constants = transposed | {"zero": np.array(0, np.int64), "rest": np.array([-1], np.int64)}
    constants |= {"axis": np.array([0], np.int64), "image": np.array([0, 1, 48, 48], np.int64)}
    nodes = [
        node("Reshape", ["main_input", "image"], ["nchw"]),
        node("Conv", ["nchw", "conv_w", "conv_b"], ["conv"], kernel_shape=[5, 5], pads=[0, 0, 0, 0], group=1),
        node("Relu", ["conv"], ["relu"]),
        node("Shape", ["relu"], ["shape"]),
        node("Gather", ["shape", "zero"], ["n"], axis=0),
        node("Unsqueeze", ["n", "axis"], ["n1"]),
        node("Concat", ["n1", "rest"], ["flat"], axis=0),
        node("Reshape", ["relu", "flat"], ["features"]),
        node("Gemm", ["features", "dense_1_w", "dense_1_b"], ["a"], transB=1),
        node("Relu", ["a"], ["b"]),
        node("Gemm", ["b", "dense_2_w", "dense_2_b"], ["c"], transB=1),
        node("Relu", ["c"], ["d"]),
        node("Gemm", ["d", "em_trk_none_w", "em_trk_none_b"], ["e"], transB=1),
        node("Softmax", ["e"], ["em_trk_none_netout"], axis=1),
        node("Gemm", ["d", "michel_w", "michel_b"], ["f"], transB=1),
        node("Sigmoid", ["f"], ["michel_netout"]),
    ]
    return model(nodes, constants, "main_input", ["em_trk_none_netout", "michel_netout"])


def model(
    nodes: list[onnx.NodeProto], constants: Arrays, main_input: str, outputs: list[str]
) -> onnx.ModelProto:
    """A model of the contract."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "graph",
        [value(main_input, TensorProto.FLOAT, ["N", 48, 48, 1])],
        [value(name, TensorProto.FLOAT, ["N", width]) for name, width in zip(outputs, (3, 1), strict=True)],
        [numpy_helper.from_array(np.asarray(array, order="C"), name) for name, array in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    proto.ir_version = 8
    return proto


class PatchByPatch:
    """Scores of whole patches by ONNX Runtime."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._session = onnxruntime.InferenceSession(
            proto.SerializeToString(), providers=["CPUExecutionProvider"]
        )

    def scores(
        self, image: np.ndarray, rows: np.ndarray, columns: np.ndarray, background: float
    ) -> np.ndarray:
        """Scores [n, 4] of hits on an image."""
        (name,) = (value.name for value in self._session.get_inputs())
        patches = np.stack(
            [cut(image, row, column, background) for row, column in zip(rows, columns, strict=True)]
        )
        parts = [
            np.concatenate(self._session.run(None, {name: patches[start : start + 128, ..., None]}), axis=1)
            for start in range(0, len(patches), 128)
        ]
        return np.concatenate(parts)


def cut(image: np.ndarray, row: int, column: int, background: float) -> np.ndarray:
    """The patch of one hit, pixel by pixel of the definition."""
    patch = np.full((48, 48), background, np.float32)
    rows, columns = np.arange(row - 24, row + 24), np.arange(column - 24, column + 24)
    inside_rows = (rows >= 0) & (rows < image.shape[0])
    inside_columns = (columns >= 0) & (columns < image.shape[1])
    patch[np.ix_(inside_rows, inside_columns)] = image[np.ix_(rows[inside_rows], columns[inside_columns])]
    return patch
