"""The best way to run a model on the CPU of this machine."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import numpy as np

from protosonic.inference.golden import golden_patches
from protosonic.inference.int8_backend import Int8Backend
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.inference.sparse_backend import SparseBackend
from protosonic.inference.sparse_engine.recognise import recognise
from protosonic.inference.tuning import DEFAULT, tuned_batch_size

if TYPE_CHECKING:
    from pathlib import Path

    from protosonic.inference.contract import Backend

__all__ = ["Precision", "load_cpu_backend"]

Precision = Literal["exact", "fast"]

TOLERANCE = 1e-5
"""Largest difference from the scores of ONNX Runtime."""

log = logging.getLogger(__name__)


def load_cpu_backend(
    model: Path,
    threads: int,
    *,
    background: float = 0.0,
    batch_size: int | None = None,
    precision: Precision = "exact",
) -> Backend:
    """Load a model with the sparse engine where it is the published network, else with ONNX Runtime.

    The sparse engine is taken after its scores of the golden batch have been compared with those of ONNX Runtime.

    Parameters
    ----------
    model
        ONNX file that meets the model contract.
    threads
        Calls at the same time.
    background
        The value of empty pixels; only speed depends on it.
    batch_size
        Patches per call of ONNX Runtime. Where it is given, ONNX Runtime computes all; else it is measured.
    precision
        ``fast`` lets ONNX Runtime compute dense layers in 8 bits. The sparse engine is faster than that, and exact.

    Raises
    ------
    ModelError
        The file is not a model, or does not meet the contract.
    """
    plain = OnnxRuntimeBackend(model, threads, batch_size or DEFAULT)
    weights = None if batch_size is not None else recognise(model)
    if weights is None:
        log.info("%s: ONNX Runtime computes, precision %s", model, precision)
        plain.batch_size = batch_size or tuned_batch_size(plain, model)
        if precision == "exact":
            return plain
        plain.close()
        return Int8Backend(model, threads, plain.batch_size)
    sparse = SparseBackend(weights, background, threads, what=str(model))
    patches = golden_patches()
    deviation = float(np.abs(sparse.infer(patches) - plain.infer(patches)).max())
    if not deviation <= TOLERANCE:
        log.warning("%s: the sparse engine deviates by %.2g; ONNX Runtime computes", model, deviation)
        sparse.close()
        return plain
    plain.close()
    return sparse
