"""ONNX files for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

N_PIXELS = 48 * 48


def linear_weights(seed: int = 0) -> np.ndarray:
    """Weights [4, 48, 48] of (track, em, none, michel), small enough that scores stay between 0 and 1."""
    return np.random.default_rng(seed).uniform(-1, 1, (4, 48, 48)) * 2e-5


def write_linear_model(
    path: Path,
    weights: np.ndarray,
    *,
    output_names: tuple[str, str] = ("em_trk_none_netout", "michel_netout"),
    input_name: str = "main_input",
    input_shape: tuple[int | str, ...] = ("N", 48, 48, 1),
    widths: tuple[int, int] = (3, 1),
    most_charge: float | None = None,
) -> Path:
    """A model whose scores are 0.5 + the sum of pixel × weight: it proves where every pixel stands.

    Patches whose pixels sum up to more than `most_charge` get scores that are no numbers.
    """
    flat = weights.reshape(4, N_PIXELS).astype(np.float32)
    split = {"w0": flat[: widths[0]].T.copy(), "w1": flat[-widths[1] :].T.copy()}
    constants = split | {"half": np.array([0.5], np.float32), "flat": np.array([-1, N_PIXELS], np.int64)}
    nodes = [helper.make_node("Reshape", [input_name, "flat"], ["pixels"])]
    half = "half"
    if most_charge is not None:
        constants |= {"most": np.array([most_charge], np.float32), "zero": np.zeros(1, np.float32)}
        nodes += [
            helper.make_node("ReduceSum", ["pixels", "last"], ["charge"], keepdims=1),
            helper.make_node("Sub", ["most", "charge"], ["rest"]),
            helper.make_node("Sqrt", ["rest"], ["root"]),
            helper.make_node("Mul", ["root", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "half"], ["half or nothing"]),
        ]
        constants["last"] = np.array([1], np.int64)
        half = "half or nothing"
    for index, name in enumerate(output_names):
        nodes.append(helper.make_node("MatMul", ["pixels", f"w{index}"], [f"sum{index}"]))
        nodes.append(helper.make_node("Add", [f"sum{index}", half], [name]))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "linear",
        [value(input_name, TensorProto.FLOAT, list(input_shape))],
        [
            value(name, TensorProto.FLOAT, ["N", width])
            for name, width in zip(output_names, widths, strict=True)
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return path
