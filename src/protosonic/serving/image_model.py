"""A model that takes image requests: the graph that cuts the patches, around any network that meets the model contract.

It has standard operators only, so that it runs wherever ONNX Runtime does. What a request holds is told in
:mod:`protosonic.inference.image_payload`; :func:`protosonic.inference.image_canvas.decode_patches` is the same in numpy.

Groups of hits go through the network one after the other, so that the memory of the device is bounded however many
hits a request has: at most 8 bytes for each pixel of the canvas (128 MiB for the largest), 40 for each pixel that is
sent, 100 for each hit; and for each hit of one group 18,432 bytes besides what the network takes (about 400 kB for the
published one).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from protosonic.errors import ModelError
from protosonic.inference.contract import OUTPUTS, ModelTensors
from protosonic.inference.folding import fold_constants
from protosonic.inference.image_canvas import BRIDGE, SIZE
from protosonic.inference.image_payload import IMAGE_INPUTS, MOST_CANVAS
from protosonic.serving.onnx_file import contract_tensors, rename_tensors, tensor_names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["INCONSISTENT", "build_image_model"]

INCONSISTENT = "the_request_does_not_fit_its_canvas"
"""Name of the node that fails when the tensors of a request contradict each other; ONNX Runtime's error tells it."""
OLDEST_OPSET, NEWER_OPSET = 11, 17
_TYPES = {
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "INT32": TensorProto.INT32,
    "FP32": TensorProto.FLOAT,
}


def build_image_model(model: onnx.ModelProto, source: Path, *, group: int = 128) -> onnx.ModelProto:
    """Build the model that takes image requests.

    Parameters
    ----------
    model
        A model that meets the model contract, with its weights inside.
    source
        Where it comes from, named in errors.
    group
        Hits that go through the network together. CPUs want 64 to 256, because the activations of more fall out of
        their caches; GPUs want 1,000 or more.

    Returns
    -------
    A model with the inputs :data:`protosonic.inference.image_payload.IMAGE_INPUTS` and the outputs of the model
    contract. Its answer has a row for each hit, in the order of the request. The marks of `model` are kept.

    Raises
    ------
    ModelError
        The model does not meet the contract, or its version of ONNX is too old to be converted.
    """
    network = fold_constants(_new_enough(model, source))  # loops would fold them again in every round
    tensors = contract_tensors(network, source)
    # The tensors of the network get out of the way of those around it.
    rename_tensors(network, {name: f"network/{name}" for name in set(tensor_names(network.graph)) if name})
    inner = ModelTensors(
        f"network/{tensors.input}", {ours: f"network/{theirs}" for ours, theirs in tensors.outputs.items()}
    )
    graph = _Graph("image")
    _decode_request(graph)
    _score_groups(graph, network.graph.node, inner, group)
    value = helper.make_tensor_value_info
    request = helper.make_graph(
        graph.nodes,
        "image_request",
        [
            value(spec.name, _TYPES[spec.dtype], [size or spec.name for size in spec.shape])
            for spec in IMAGE_INPUTS.values()
        ],
        [value(name, TensorProto.FLOAT, ["hits", len(classes)]) for name, classes in OUTPUTS.items()],
        [*network.graph.initializer, *graph.constants],
        sparse_initializer=network.graph.sparse_initializer,
    )
    network.graph.CopyFrom(request)
    return network


class _Graph:
    """Nodes and constants as they are made. Every node has one output, whose name is its own."""

    def __init__(self, prefix: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._prefix = prefix

    def constant(self, name: str, values: object, dtype: type[np.generic] = np.int64) -> str:
        name = f"{self._prefix}/{name}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def node(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        name = f"{self._prefix}/{name}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name


def _decode_request(graph: _Graph) -> None:
    """Make the canvas and the corners of the patches: ``image/canvas``, ``image/corners``, ``image/window``."""
    node, constant = graph.node, graph.constant
    int64, axis, one = TensorProto.INT64, constant("axis", 0), constant("one", [1])
    size, too_large = constant("size", [SIZE]), constant("too_large", [MOST_CANVAS + 1])
    # The corners.
    hit_gap = node("Cast", "hit_gap", "hit_gap", to=int64)
    corner = node("CumSum", "corner", hit_gap, axis)
    is_hit = node("Less", "is_hit", hit_gap, constant("bridge", [BRIDGE]))
    corners = node("Compress", "corners_wide", corner, is_hit, axis=0)
    node("Cast", "corners", corners, to=TensorProto.INT32)
    # The canvas ends with the rows of the last patch.
    asked_columns = node("Cast", "asked_columns", "columns", to=int64)
    is_narrow = node("Less", "is_narrow", asked_columns, size)
    columns = node("Where", "columns", is_narrow, size, asked_columns)
    last = node("Gather", "last", corner, constant("end", [-1]), axis=0)
    last_row = node("Div", "last_row", last, columns)
    rows = node("Add", "rows", last_row, size)
    n_pixels = node("Mul", "n_pixels", rows, columns)
    past_rows = node("Mul", "past_rows", last_row, columns)
    last_column = node("Sub", "last_column", last, past_rows)
    last_end = node("Add", "last_end", last_column, size)
    # Kernels on GPUs write wherever an index says: nothing may be out of bounds.
    gap = node("Cast", "gap", "run_gap", to=int64)
    length = node("Add", "length", node("Cast", "length_less_one", "run_length", to=int64), one)
    n_values = node("Shape", "n_values", "pixel_value")
    n_runs = node("Shape", "n_runs", "run_gap")
    n_named = node("ReduceSum", "n_named", length, keepdims=1)
    pixels_end = node("Add", "pixels_end", node("ReduceSum", "skipped", gap, keepdims=1), n_named)
    checks = [
        node("Equal", "has_all_lengths", n_runs, node("Shape", "n_lengths", "run_length")),
        node("Equal", "has_all_values", n_named, n_values),
        node("Less", "has_pixels_inside", pixels_end, node("Add", "pixels_bound", n_pixels, one)),
        node("Less", "has_patch_inside", last_end, node("Add", "columns_bound", columns, one)),
        node("Less", "is_small", n_pixels, too_large),
    ]
    is_sound = checks[0]
    for number, check in enumerate(checks[1:]):
        is_sound = node("And", f"is_sound_{number}", is_sound, check)
    wrong = node("Add", "wrong_shape", n_runs, one)
    shape = node("Where", "shape_if_sound", is_sound, n_runs, wrong)
    graph.nodes.append(helper.make_node("Reshape", [gap, shape], ["image/sound_gap"], name=INCONSISTENT))
    # Each pixel is one place after the one before, but for the first of a run.
    first = node("CumSum", "first_of_run", length, axis, exclusive=1)
    step = node("Add", "step_to_run", "image/sound_gap", one)
    single = numpy_helper.from_array(np.ones(1, np.int64))
    steps = node(
        "ScatterElements",
        "steps",
        node("ConstantOfShape", "ones", n_values, value=single),
        first,
        step,
        axis=0,
    )
    place = node("Sub", "place", node("CumSum", "place_and_one", steps, axis), one)
    n_allowed = node("Where", "n_allowed", is_sound, n_pixels, one)
    empty = node("Expand", "empty_canvas", "background", n_allowed)
    node("ScatterElements", "canvas", empty, place, "pixel_value", axis=0)
    # Distance of a patch's pixels from its corner.
    columns_32 = node("Cast", "columns_32", columns, to=TensorProto.INT32)
    line = constant("line", np.arange(SIZE)[:, None], np.int32)
    below = node("Mul", "below", line, columns_32)
    node("Add", "window", below, constant("beside", np.arange(SIZE)[None], np.int32))


def _score_groups(
    graph: _Graph, network: Sequence[onnx.NodeProto], tensors: ModelTensors, group: int
) -> None:
    """Loop over groups of hits: cut their patches, and append their scores to those of the groups before."""
    node, constant = graph.node, graph.constant
    group_size, one = constant("group_size", [group]), "image/one"
    body = _Graph("group")
    number = helper.make_tensor_value_info("group/number", TensorProto.INT64, [])
    goes_on = helper.make_tensor_value_info("group/goes_on", TensorProto.BOOL, [])
    first = body.node("Mul", "first", "group/number", group_size)
    end = body.node("Add", "end", first, group_size)
    corners = body.node("Slice", "corners", "image/corners", first, end, constant("first_axis", [0]))
    corners = body.node("Reshape", "corners_3d", corners, constant("shape_3d", [-1, 1, 1]))
    pixels = body.node(
        "Gather", "pixels", "image/canvas", body.node("Add", "places", corners, "image/window"), axis=0
    )
    shape = constant("patches_shape", [-1, SIZE, SIZE, 1])
    body.nodes.append(helper.make_node("Reshape", [pixels, shape], [tensors.input], name="group/patches"))
    body.nodes += network
    body.node("Identity", "goes_on_after", "group/goes_on")
    given, made = (
        [number, goes_on],
        [helper.make_tensor_value_info("group/goes_on_after", TensorProto.BOOL, [])],
    )
    for name, classes in OUTPUTS.items():
        body.node("Concat", f"{name}/after", f"group/{name}", tensors.outputs[name], axis=0)
        for where, named in ((given, f"group/{name}"), (made, f"group/{name}/after")):
            where.append(helper.make_tensor_value_info(named, TensorProto.FLOAT, [named, len(classes)]))
    n_hits = node("Shape", "n_hits", "image/corners")
    n_full = node("Sub", "n_hits_and_group", node("Add", "n_hits_and_group_and_one", n_hits, group_size), one)
    n_groups = node("Div", "n_groups", n_full, group_size)
    n_groups = node("Reshape", "n_groups_scalar", n_groups, constant("scalar", np.empty(0)))
    none = [
        constant(f"{name}/none", np.empty((0, len(classes))), np.float32) for name, classes in OUTPUTS.items()
    ]
    loop = helper.make_graph(body.nodes, "group", given, made)
    graph.nodes.append(
        helper.make_node("Loop", [n_groups, "", *none], list(OUTPUTS), name="image/groups", body=loop)
    )


def _new_enough(model: onnx.ModelProto, source: Path) -> onnx.ModelProto:
    """Copy a model; one whose operators are older than those around it is converted."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    opset = max((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), default=1)
    if opset >= OLDEST_OPSET:
        return copy
    try:
        return version_converter.convert_version(copy, NEWER_OPSET)
    except Exception as error:  # its exceptions share no base class
        raise ModelError(
            "the operators of the model are too old for the image payload",
            file=source,
            expected=f"opset {OLDEST_OPSET} or later, or one that can be converted",
            found=f"opset {opset}: {str(error).splitlines()[0]}",
            hint="Export the model again with a newer version of ONNX, or send patches",
        ) from error
