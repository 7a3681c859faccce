"""Recognises the published architecture in an ONNX graph by what the graph computes, not by its names.

Converters write the same network in many ways: channels first or last, Gemm or MatMul and Add, reshapes and
transposes in between. Instead of a list of patterns, the nodes are followed in their order with *which element stands
where*: a tensor is an array of the numbers of a layer's outputs, for two patches. Whatever only moves elements is
applied to those numbers, and the weights of the next layer are read in the order that results.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from protosonic.images.profiles import PATCH_SIZE
from protosonic.inference.contract import ModelTensors, TensorSpec
from protosonic.inference.sparse_engine.weights import FEATURES, HIDDEN, KERNEL, POSITIONS, CnnWeights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["recognise"]

_PATCHES = 2
"""Patches that are followed: with one, a layer that mixes patches would look like one that does not."""
_MOVES = {"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
"""Operators that move elements and change none."""
_FOLDED = _MOVES | {
    "Cast",
    "Concat",
    "Constant",
    "DequantizeLinear",
    "Div",
    "Gather",
    "Mul",
    "ReduceProd",
    "Slice",
}
"""Operators that converters leave between constants, to compute a shape, or weights that are stored as integers."""
_ACTIVATIONS = {"Relu", "Sigmoid", "Softmax"}


class _UnknownGraphError(Exception):
    """The graph is not that of the published architecture."""


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer: `weights` [outputs, fan-in] in the order of the outputs of `source`; `shape` is that of one patch's outputs."""

    shape: tuple[int, ...]
    source: _Layer | None = None
    weights: NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None
    activation: str | None = None

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def numbers(self) -> NDArray[np.int64]:
        """Give a number to every output for every patch, in their canonical order."""
        return np.arange(_PATCHES * self.size).reshape(_PATCHES, *self.shape)


@dataclass(frozen=True, eq=False)
class _Tensor:
    """Outputs of a layer: which one stands where."""

    layer: _Layer
    numbers: NDArray[np.int64]


_Value = _Tensor | np.ndarray[Any, Any]


def recognise(model: Path) -> CnnWeights | None:
    """Read the weights of the published architecture from an ONNX file.

    Parameters
    ----------
    model
        An ONNX file.

    Returns
    -------
    The weights, or ``None`` for any other network: another layer, size, activation, type, stride or padding.

    Raises
    ------
    ModelError
        The file does not meet the model contract.
    """
    proto = onnx.load(model)
    graph = proto.graph
    constants = {tensor.name for tensor in graph.initializer}
    tensors = ModelTensors.match(
        [_spec(value) for value in graph.input if value.name not in constants],
        [_spec(value) for value in graph.output],
        what=str(model),
    )
    try:
        values = _Follower(proto).follow(tensors.input)
        return _weights(values, tensors.outputs)
    except _UnknownGraphError:
        return None


class _Follower:
    """Computes what every tensor of a model's graph holds."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._operator_sets = list(model.opset_import)

    def follow(self, main_input: str) -> dict[str, _Value]:
        """Give the value of every tensor by its name."""
        image = _Layer((PATCH_SIZE, PATCH_SIZE, 1))
        values: dict[str, _Value] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in self._graph.initializer
        }
        values[main_input] = _Tensor(image, image.numbers())
        for node in self._graph.node:
            if node.domain not in {"", "ai.onnx"} or len(node.output) != 1:
                raise _UnknownGraphError(node.op_type)
            values[node.output[0]] = self._value(node, [values[name] for name in node.input if name])
        return values

    def _value(self, node: onnx.NodeProto, inputs: list[_Value]) -> _Value:
        tensors = [value for value in inputs if isinstance(value, _Tensor)]
        constants = [value for value in inputs if not isinstance(value, _Tensor)]
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        if not tensors and node.op_type in _FOLDED:
            return self._evaluate(node, constants)
        if len(tensors) == 1 and node.op_type == "Shape":
            return self._evaluate(node, [tensors[0].numbers])
        if len(tensors) == 1 and node.op_type == "Add":
            return _add(tensors[0], *constants)
        if len(tensors) == 1 and inputs[0] is tensors[0]:
            if node.op_type in _MOVES:
                return replace(tensors[0], numbers=self._evaluate(node, [tensors[0].numbers, *constants]))
            if node.op_type in _ACTIVATIONS:
                return _activate(tensors[0], node.op_type, attributes)
            if node.op_type == "Conv":
                return _convolution(tensors[0], attributes, *constants)
            if node.op_type == "MatMul":
                return _dense(tensors[0], *constants)
            if node.op_type == "Gemm":
                return _gemm(tensors[0], attributes, *constants)
        raise _UnknownGraphError(node.op_type)

    def _evaluate(self, node: onnx.NodeProto, inputs: list[NDArray[Any]]) -> NDArray[Any]:
        """Compute a node on arrays."""
        names = [name for name in node.input if name]
        graph = helper.make_graph(
            [node],
            "node",
            [onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names)],
            [onnx.ValueInfoProto(name=node.output[0])],
        )
        evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=self._operator_sets))
        try:
            (result,) = evaluator.run(None, dict(zip(names, inputs, strict=True)))
        except ValueError:  # a shape for another number of patches
            raise _UnknownGraphError(node.op_type) from None
        return np.asarray(result)


def _convolution(
    tensor: _Tensor, attributes: Mapping[str, Any], weights: NDArray[Any], bias: NDArray[Any] | None = None
) -> _Tensor:
    source = tensor.layer
    plain = (
        not any(attributes.get("pads", [0]))
        and all(
            step == 1
            for name in ("strides", "dilations", "group")
            for step in np.ravel(attributes.get(name, 1))
        )
        and attributes.get("auto_pad", b"NOTSET") in {b"NOTSET", b"VALID"}
    )
    expected = source.numbers().reshape(_PATCHES, 1, PATCH_SIZE, PATCH_SIZE)
    if not plain or source.source is not None or not np.array_equal(tensor.numbers, expected):
        raise _UnknownGraphError("Conv")
    if weights.shape != (FEATURES, 1, KERNEL, KERNEL):
        raise _UnknownGraphError("Conv")
    layer = _Layer((FEATURES, POSITIONS, POSITIONS), source, _float32(weights.reshape(FEATURES, -1)))
    result = _Tensor(layer, layer.numbers())
    return result if bias is None else _add(result, bias.reshape(-1, 1, 1))


def _dense(tensor: _Tensor, weights: NDArray[Any]) -> _Tensor:
    """Multiply by a matrix [fan-in, outputs]."""
    source = tensor.layer
    order = tensor.numbers[0]
    patches = np.arange(_PATCHES)[:, None] * source.size
    if (
        weights.ndim != 2
        or order.shape != weights.shape[:1]
        or not np.array_equal(tensor.numbers, order + patches)
    ):
        raise _UnknownGraphError("MatMul")
    canonical = np.empty(weights.shape[::-1], np.float32)
    canonical[:, order] = _float32(weights).T
    layer = _Layer(weights.shape[1:], source, canonical)
    return _Tensor(layer, layer.numbers())


def _gemm(
    tensor: _Tensor, attributes: Mapping[str, Any], weights: NDArray[Any], bias: NDArray[Any] | None = None
) -> _Tensor:
    if attributes.get("transA", 0) or not attributes.get("alpha", 1) == attributes.get("beta", 1) == 1:
        raise _UnknownGraphError("Gemm")
    result = _dense(tensor, weights.T if attributes.get("transB", 0) else weights)
    return result if bias is None else _add(result, bias)


def _add(tensor: _Tensor, constant: NDArray[Any]) -> _Tensor:
    """Take a constant that is added as the bias; it must be the same wherever the same weights were used."""
    layer = tensor.layer
    if layer.weights is None or layer.bias is not None or layer.activation is not None:
        raise _UnknownGraphError("Add")
    try:
        added = np.broadcast_to(_float32(constant), tensor.numbers.shape)
    except ValueError:
        raise _UnknownGraphError("Add") from None
    per_output = np.empty(_PATCHES * layer.size, np.float32)
    per_output[tensor.numbers.ravel()] = added.ravel()
    by_output = per_output.reshape(_PATCHES, len(layer.weights), -1)
    bias = by_output[0, :, 0].copy()
    if not (by_output == bias[:, None]).all():
        raise _UnknownGraphError("Add")
    return replace(tensor, layer=replace(layer, bias=bias))


def _activate(tensor: _Tensor, activation: str, attributes: Mapping[str, Any]) -> _Tensor:
    over_all = activation != "Softmax" or (
        tensor.numbers.ndim == 2
        and attributes.get("axis", -1) in {-1, 1}  # one before, all operator sets agree
    )
    if not over_all or tensor.layer.weights is None or tensor.layer.activation is not None:
        raise _UnknownGraphError(activation)
    return replace(tensor, layer=replace(tensor.layer, activation=activation))


def _weights(values: Mapping[str, _Value], outputs: Mapping[str, str]) -> CnnWeights:
    classes = _head(values[outputs["em_trk_none_netout"]], (3,), "Softmax")
    michel = _head(values[outputs["michel_netout"]], (1,), "Sigmoid")
    dense_2 = _checked(classes.source, (32,), "Relu")
    if michel.source is not classes.source:
        raise _UnknownGraphError("heads")
    dense_1 = _checked(dense_2.source, (HIDDEN,), "Relu")
    convolution = _checked(dense_1.source, (FEATURES, POSITIONS, POSITIONS), "Relu")
    return CnnWeights(
        kernel=np.ascontiguousarray(_of(convolution).T).reshape(KERNEL, KERNEL, FEATURES),
        bias=_bias(convolution),
        dense_1=np.ascontiguousarray(
            _of(dense_1).reshape(HIDDEN, FEATURES, POSITIONS, POSITIONS).transpose(2, 3, 1, 0)
        ),
        bias_1=_bias(dense_1),
        dense_2=np.ascontiguousarray(_of(dense_2).T),
        bias_2=_bias(dense_2),
        classes=np.ascontiguousarray(_of(classes).T),
        classes_bias=_bias(classes),
        michel=np.ascontiguousarray(_of(michel).T),
        michel_bias=_bias(michel),
    )


def _head(value: _Value, shape: tuple[int, ...], activation: str) -> _Layer:
    if not isinstance(value, _Tensor) or not np.array_equal(value.numbers, value.layer.numbers()):
        raise _UnknownGraphError("output")
    return _checked(value.layer, shape, activation)


def _checked(layer: _Layer | None, shape: tuple[int, ...], activation: str) -> _Layer:
    if layer is None or layer.shape != shape or layer.activation != activation:
        raise _UnknownGraphError("layer")
    return layer


def _of(layer: _Layer) -> NDArray[np.float32]:
    assert layer.weights is not None
    return layer.weights


def _bias(layer: _Layer) -> NDArray[np.float32]:
    return np.zeros(len(_of(layer)), np.float32) if layer.bias is None else layer.bias


def _float32(array: NDArray[Any]) -> NDArray[np.float32]:
    if array.dtype != np.float32:
        raise _UnknownGraphError(array.dtype)
    return array


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = onnx.TensorProto.DataType.Name(tensor.elem_type)
    shape = tuple(size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim)
    return TensorSpec(value.name, "FP32" if dtype == "FLOAT" else dtype, shape)
