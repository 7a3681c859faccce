"""ONNX files as a server gets them: one file, with the tensor names of the model contract."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import onnx

from protosonic.inference.contract import INPUT_NAME, ModelTensors, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["contract_tensors", "copy_with_contract_names", "rename_tensors", "tensor_names"]


def copy_with_contract_names(source: Path, target: Path) -> None:
    """Copy an ONNX file; the copy has its weights inside and the tensor names of the model contract.

    A file that is so already is copied byte for byte.

    Raises
    ------
    ModelError
        The file does not meet the model contract.
    """
    # A file that will be copied as it is need not be read with its weights.
    model = onnx.load(source, load_external_data=False)
    tensors = contract_tensors(model, source)
    names = {tensors.input: INPUT_NAME, **{theirs: ours for ours, theirs in tensors.outputs.items()}}
    names = {theirs: ours for theirs, ours in names.items() if theirs != ours}
    has_weights_outside = any(
        tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _weights(model.graph)
    )
    if not names and not has_weights_outside:
        shutil.copyfile(source, target)
        return
    if has_weights_outside:
        model = onnx.load(source)
    if names:
        rename_tensors(model, names)
    onnx.save(model, target)


def contract_tensors(model: onnx.ModelProto, source: Path) -> ModelTensors:
    """Read the names that a model gives to the tensors of the contract."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}  # old files list them as inputs as well
    return ModelTensors.match(
        [_spec(value) for value in graph.input if value.name not in weights],
        [_spec(value) for value in graph.output],
        what=str(source),
    )


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = onnx.TensorProto.DataType.Name(tensor.elem_type)
    shape = tuple(size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim)
    return TensorSpec(value.name, "FP32" if dtype == "FLOAT" else dtype, shape)


def rename_tensors(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Give tensors other names, everywhere; a tensor in the way gets a new one."""
    taken = set(tensor_names(model.graph))
    mapping = dict(names)
    for ours in names.values():
        if ours in taken and ours not in names:
            fresh = f"{ours}_inner"
            while fresh in taken:
                fresh += "_"
            mapping[ours] = fresh
    for graph in _graphs(model.graph):
        for node in graph.node:
            node.input[:] = [mapping.get(name, name) for name in node.input]
            node.output[:] = [mapping.get(name, name) for name in node.output]
        for named in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            named.name = mapping.get(named.name, named.name)
        for sparse in graph.sparse_initializer:
            sparse.values.name = mapping.get(sparse.values.name, sparse.values.name)
        for annotation in graph.quantization_annotation:
            annotation.tensor_name = mapping.get(annotation.tensor_name, annotation.tensor_name)


def tensor_names(graph: onnx.GraphProto) -> Iterator[str]:
    """Give the names of all tensors of a graph and those inside it; names may come several times."""
    for part in _graphs(graph):
        yield from (name for node in part.node for name in (*node.input, *node.output))
        yield from (named.name for named in (*part.input, *part.output, *part.initializer))
        yield from (sparse.values.name for sparse in part.sparse_initializer)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Give a graph and those inside its nodes (branches and loops see the names around them)."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _graphs(inner)


def _weights(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    for part in _graphs(graph):
        yield from part.initializer
        for node in part.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
