"""Constants of a graph that are computed from other constants, such as weights stored in 8 bits."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

__all__ = ["fold_constants"]

_FOLDED = {"Cast", "DequantizeLinear", "Mul"}


def fold_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Compute what depends on initializers only, and put the results in its place.

    ONNX Runtime does the same when it loads a model, but not in the body of a loop, and its quantiser wants weights.

    Parameters
    ----------
    model
        Stays as it is.

    Returns
    -------
    A model that computes the same; weights stored as integers have become float32.
    """
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    graph = folded.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type in _FOLDED and all(name in constants for name in node.input):
            constants[node.output[0]] = _computed(node, constants, folded)
        else:
            nodes.append(node)
    if len(nodes) == len(graph.node):
        return folded
    used = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for name, tensor in constants.items() if name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    return folded


def _computed(
    node: onnx.NodeProto, constants: dict[str, onnx.TensorProto], model: onnx.ModelProto
) -> onnx.TensorProto:
    inputs = {name: numpy_helper.to_array(constants[name]) for name in node.input}
    graph = helper.make_graph(
        [node],
        "node",
        [onnx.ValueInfoProto(name=name) for name in inputs],
        [onnx.ValueInfoProto(name=node.output[0])],
    )
    evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=list(model.opset_import)))
    (result,) = evaluator.run(None, inputs)
    return numpy_helper.from_array(np.asarray(result), node.output[0])
