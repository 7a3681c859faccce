"""Would a GPU that computes in TF32 be noticed? Emulated: the inputs of every product keep 10 bits of the mantissa."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import numpy_helper

from protosonic.inference.failure_policy import EndpointError
from protosonic.inference.golden import Reference, golden_patches
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.inference.untrained import untrained_model, write_untrained_model
from protosonic.serving.endpoint_advice import TF32_DEVIATIONS

Array = NDArray[np.float32]


def tf32(values: Array) -> Array:
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    half = np.uint32(0xFFF) + ((bits >> np.uint32(13)) & np.uint32(1))  # to the nearest, ties to even
    return ((bits + half) & np.uint32(0xFFFFE000)).view(np.float32)


def scores(patches: Array, rounded: Callable[[Array], Array]) -> Array:
    """The published network in numpy, with the inputs of every product rounded."""
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in untrained_model().graph.initializer}

    def layer(values: Array, name: str) -> Array:
        return rounded(values) @ rounded(weights[f"{name}_w"]) + weights[f"{name}_b"]

    windows = sliding_window_view(patches, (5, 5), axis=(1, 2)).reshape(len(patches), 44 * 44, 25)
    weights["conv_w"] = weights["conv_w"].reshape(48, 25).T
    values = np.maximum(layer(windows, "conv"), 0).transpose(0, 2, 1).reshape(len(patches), -1)
    for name in ("dense_1", "dense_2"):
        values = np.maximum(layer(values, name), 0)
    exponents = np.exp(layer(values, "em_trk_none"))
    softmax = exponents / exponents.sum(axis=1, keepdims=True)
    return np.hstack([softmax, 1 / (1 + np.exp(-layer(values, "michel")))]).astype(np.float32)


def test_the_golden_check_tells_tf32_from_fp32(tmp_path: Path) -> None:
    write_untrained_model(tmp_path / "model.onnx")
    reference = Reference(OnnxRuntimeBackend(tmp_path / "model.onnx", threads=1).infer, 1e-5)
    patches = golden_patches()
    assert reference.check(scores(patches, lambda values: values), "FP32 in another order") < 1e-6
    with pytest.raises(EndpointError, match="without TF32"):
        reference.check(scores(patches, tf32), "TF32")
    deviation = np.abs(scores(patches, tf32) - reference.scores).max()
    assert TF32_DEVIATIONS[0] < deviation < TF32_DEVIATIONS[1]
    assert 1e-4 < deviation < 1e-3
