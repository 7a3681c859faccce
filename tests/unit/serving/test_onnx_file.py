from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from protosonic.errors import ModelError
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.inference.untrained import write_untrained_model
from protosonic.serving.onnx_file import copy_with_contract_names
from support.models import linear_weights, write_linear_model

INPUT = "main_input:0"
SUFFIXED = ("em_trk_none_netout/Softmax:0", "michel_netout/Sigmoid:0")
PATCHES = np.random.default_rng(1).uniform(-5, 15, (7, 48, 48)).astype(np.float32)


def scores(path: Path) -> np.ndarray:
    return OnnxRuntimeBackend(path, threads=1).infer(PATCHES)


def names(path: Path) -> tuple[list[str], list[str]]:
    """What ONNX Runtime calls the tensors."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [node.name for node in session.get_inputs()], [node.name for node in session.get_outputs()]


def test_a_file_with_the_names_of_the_contract_is_copied_byte_for_byte(tmp_path: Path) -> None:
    write_untrained_model(tmp_path / "model.onnx")
    copy_with_contract_names(tmp_path / "model.onnx", tmp_path / "copy.onnx")
    assert (tmp_path / "copy.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()


def test_tensors_with_the_names_of_a_conversion_get_those_of_the_contract_and_give_equal_scores(
    tmp_path: Path,
) -> None:
    source = write_linear_model(
        tmp_path / "model.onnx", linear_weights(), output_names=SUFFIXED, input_name=INPUT
    )
    copy_with_contract_names(source, tmp_path / "copy.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "copy.onnx"), full_check=True)
    assert names(tmp_path / "copy.onnx") == (["main_input"], ["em_trk_none_netout", "michel_netout"])
    np.testing.assert_array_equal(scores(tmp_path / "copy.onnx"), scores(source))


def test_inner_tensors_in_the_way_and_names_used_inside_branches_are_renamed_too(tmp_path: Path) -> None:
    """The published graph calls the layer before its softmax as the contract calls the softmax."""
    source = tmp_path / "model.onnx"
    onnx.save(model_with_a_branch(), source)
    copy_with_contract_names(source, tmp_path / "copy.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "copy.onnx"), full_check=True)
    assert names(tmp_path / "copy.onnx") == (["main_input"], ["em_trk_none_netout", "michel_netout"])
    np.testing.assert_array_equal(scores(tmp_path / "copy.onnx"), scores(source))


def test_weights_beside_the_file_are_taken_into_the_copy(tmp_path: Path) -> None:
    write_untrained_model(tmp_path / "inside.onnx")
    onnx.save(
        onnx.load(tmp_path / "inside.onnx"),
        tmp_path / "outside.onnx",
        save_as_external_data=True,
        location="weights.bin",
    )
    assert (tmp_path / "outside.onnx").stat().st_size < 100_000
    (tmp_path / "served").mkdir()
    copy_with_contract_names(tmp_path / "outside.onnx", tmp_path / "served" / "model.onnx")
    (tmp_path / "weights.bin").unlink()
    np.testing.assert_array_equal(
        scores(tmp_path / "served" / "model.onnx"), scores(tmp_path / "inside.onnx")
    )


def test_a_file_outside_the_contract_is_refused(tmp_path: Path) -> None:
    source = write_linear_model(tmp_path / "model.onnx", linear_weights(), output_names=("a", "b"))
    with pytest.raises(ModelError, match="there must be one output em_trk_none_netout"):
        copy_with_contract_names(source, tmp_path / "copy.onnx")
    assert not (tmp_path / "copy.onnx").exists()


def model_with_a_branch() -> onnx.ModelProto:
    """A model whose inner tensors are called as the contract's outputs, and whose input is read inside a branch."""
    value = helper.make_tensor_value_info

    def branch(sign: float) -> onnx.GraphProto:
        constant = numpy_helper.from_array(np.array([sign], np.float32), f"sign{sign}")
        nodes = [
            helper.make_node("Reshape", ["main_input:0", "flat"], [f"flat{sign}"]),
            helper.make_node("Mul", [f"flat{sign}", f"sign{sign}"], [f"out{sign}"]),
        ]
        return helper.make_graph(
            nodes, f"branch{sign}", [], [value(f"out{sign}", TensorProto.FLOAT, ["N", 2304])], [constant]
        )

    weights = linear_weights().reshape(4, 2304).astype(np.float32)
    constants = {
        "flat": np.array([-1, 2304], np.int64),
        "always": np.array(True),
        "w0": weights[:3].T.copy(),
        "w1": weights[3:].T.copy(),
    }
    nodes = [
        helper.make_node("If", ["always"], ["pixels"], then_branch=branch(1.0), else_branch=branch(-1.0)),
        helper.make_node("MatMul", ["pixels", "w0"], ["em_trk_none_netout"]),
        helper.make_node("Softmax", ["em_trk_none_netout"], ["em_trk_none_netout/Softmax:0"], axis=1),
        helper.make_node("MatMul", ["pixels", "w1"], ["michel_netout"]),
        helper.make_node("Sigmoid", ["michel_netout"], ["michel_netout/Sigmoid:0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "branches",
        [value("main_input:0", TensorProto.FLOAT, ["N", 48, 48, 1])],
        [
            value("em_trk_none_netout/Softmax:0", TensorProto.FLOAT, ["N", 3]),
            value("michel_netout/Sigmoid:0", TensorProto.FLOAT, ["N", 1]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model
