"""Which graphs are recognised, and that their weights come out in one layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from protosonic.errors import ModelError
from protosonic.inference.sparse_engine.recognise import recognise
from protosonic.inference.sparse_engine.weights import CnnWeights
from protosonic.inference.untrained import untrained_model
from support.models import linear_weights, write_linear_model

from .graphs import converted_from_pytorch, converted_from_tensorflow, untrained_weights


def read(path: Path, proto: onnx.ModelProto) -> CnnWeights | None:
    onnx.checker.check_model(proto)
    onnx.save(proto, path)
    return recognise(path)


@pytest.mark.parametrize("convert", [converted_from_tensorflow, converted_from_pytorch])
def test_every_converter_gives_the_same_weights(
    tmp_path: Path, convert: Callable[[dict[str, np.ndarray]], onnx.ModelProto]
) -> None:
    plain = read(tmp_path / "plain.onnx", untrained_model())
    converted = read(tmp_path / "converted.onnx", convert(untrained_weights()))
    assert plain is not None
    assert converted is not None
    for field in fields(CnnWeights):
        np.testing.assert_array_equal(getattr(converted, field.name), getattr(plain, field.name))


def test_weights_are_ordered_by_position_and_feature(tmp_path: Path) -> None:
    weights = read(tmp_path / "model.onnx", untrained_model())
    ours = untrained_weights()
    assert weights is not None
    assert weights.dense_1.shape == (44, 44, 48, 128)
    np.testing.assert_array_equal(weights.kernel[3, 1], ours["conv_w"][:, 0, 3, 1])
    np.testing.assert_array_equal(weights.dense_1[5, 7, 11], ours["dense_1_w"][(11 * 44 + 5) * 44 + 7])


def replace_node(proto: onnx.ModelProto, output: str, node: onnx.NodeProto) -> None:
    (index,) = (i for i, other in enumerate(proto.graph.node) if other.output[0] == output)
    proto.graph.node[index].CopyFrom(node)


def leaky(proto: onnx.ModelProto) -> None:
    replace_node(proto, "dense_1_relu", helper.make_node("LeakyRelu", ["dense_1"], ["dense_1_relu"]))


def no_activation(proto: onnx.ModelProto) -> None:
    replace_node(proto, "dense_2_relu", helper.make_node("Identity", ["dense_2"], ["dense_2_relu"]))


def softmax_over_patches(proto: onnx.ModelProto) -> None:
    softmax = helper.make_node("Softmax", ["em_trk_none"], ["em_trk_none_netout"], axis=0)
    replace_node(proto, "em_trk_none_netout", softmax)


def scaled(proto: onnx.ModelProto) -> None:
    gemm = helper.make_node("Gemm", ["features", "dense_1_w", "dense_1_b"], ["dense_1"], alpha=0.5)
    replace_node(proto, "dense_1", gemm)


def flipped_image(proto: onnx.ModelProto) -> None:
    flipped = helper.make_node("Transpose", ["main_input"], ["image"], perm=[0, 3, 2, 1])
    replace_node(proto, "image", flipped)


def bias_by_position(proto: onnx.ModelProto) -> None:
    bias = np.zeros((48, 44, 44), np.float32)
    bias[3, 4, 5] = 1
    proto.graph.initializer.append(numpy_helper.from_array(bias, "by_position"))
    relu = next(node for node in proto.graph.node if node.op_type == "Relu")
    relu.input[0] = "biased"
    nodes = list(proto.graph.node)
    nodes[1].input.pop()
    nodes.insert(2, helper.make_node("Add", ["conv", "by_position"], ["biased"]))
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def other_domain(proto: onnx.ModelProto) -> None:
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    replace_node(
        proto, "dense_1_relu", helper.make_node("Relu", ["dense_1"], ["dense_1_relu"], domain="com.example")
    )


def one_patch_only(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 48, 48], np.int64), "one"))
    replace_node(proto, "image", helper.make_node("Reshape", ["main_input", "one"], ["image"]))


@pytest.mark.parametrize(
    "change",
    [
        leaky,
        no_activation,
        softmax_over_patches,
        scaled,
        flipped_image,
        bias_by_position,
        other_domain,
        one_patch_only,
    ],
)
def test_a_network_that_computes_something_else_is_not_recognised(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None]
) -> None:
    proto = untrained_model()
    change(proto)
    onnx.save(proto, tmp_path / "model.onnx")
    assert recognise(tmp_path / "model.onnx") is None


def test_another_architecture_is_not_recognised(tmp_path: Path) -> None:
    assert recognise(write_linear_model(tmp_path / "linear.onnx", linear_weights())) is None


def test_a_file_against_the_contract_is_an_error(tmp_path: Path) -> None:
    path = write_linear_model(tmp_path / "linear.onnx", linear_weights(), input_name="other")
    with pytest.raises(ModelError, match="main_input"):
        recognise(path)
