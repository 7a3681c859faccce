"""The best way to run a model on the CPU of this machine."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import numpy as np

from protosonic.inference.golden import golden_patches
from protosonic.inference.sparse_backend import SparseBackend
from protosonic.inference.sparse_engine.weights_file import KnownNetwork, read_weights

if TYPE_CHECKING:
    from pathlib import Path

    from protosonic.inference.contract import Backend
    from protosonic.inference.sparse_engine.weights_file import WeightsFile

__all__ = ["Precision", "know_network", "load_cpu_backend"]

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
    weights_file: WeightsFile | None = None,
) -> Backend:
    """Load a model with the sparse engine where it is the published network, else with ONNX Runtime.

    The sparse engine is taken after its scores of the golden batch have been compared with those of ONNX Runtime.

    Parameters
    ----------
    model
        ONNX file that meets the model contract.
    threads
        Threads that compute.
    background
        The value of empty pixels; only speed depends on it.
    batch_size
        Patches per call of ONNX Runtime. Where it is given, ONNX Runtime computes all; else it is measured.
    precision
        ``fast`` lets ONNX Runtime compute dense layers in 8 bits. The sparse engine is faster than that, and exact.
    weights_file
        What is known of the model already; where there is none the model is read.

    Raises
    ------
    ModelError
        The file is not a model, or does not meet the contract.
    """
    if batch_size is None:
        known = weights_file and read_weights(weights_file)
        sparse = _load_sparse(model, threads, background, known or know_network(model))
        if sparse is not None:
            return sparse
    return _load_onnx_runtime(model, threads, batch_size, precision)


def know_network(model: Path) -> KnownNetwork:
    """Recognise the network of a model, and score the golden batch with ONNX Runtime if it is the published one.

    Raises
    ------
    ModelError
        The file is not a model, or does not meet the contract.
    """
    from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
    from protosonic.inference.sparse_engine.recognise import recognise

    plain = OnnxRuntimeBackend(model, threads=1)
    weights = recognise(model)
    scores = np.empty((0, 4), np.float32) if weights is None else plain.infer(golden_patches())
    plain.close()
    return KnownNetwork(weights, scores)


def _load_sparse(model: Path, threads: int, background: float, known: KnownNetwork) -> SparseBackend | None:
    if known.weights is None:
        return None
    sparse = SparseBackend(known.weights, background, threads, what=str(model))
    deviation = float(np.abs(sparse.infer(golden_patches()) - known.golden_scores).max())
    if deviation <= TOLERANCE:
        return sparse
    log.warning("%s: the sparse engine deviates by %.2g; ONNX Runtime computes", model, deviation)
    sparse.close()
    return None


def _load_onnx_runtime(model: Path, threads: int, batch_size: int | None, precision: Precision) -> Backend:
    # Imported here, because most jobs do without ONNX Runtime.
    from protosonic.inference.int8_backend import Int8Backend
    from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
    from protosonic.inference.tuning import Calls, tuned_calls

    log.info("%s: ONNX Runtime computes, precision %s", model, precision)
    best = tuned_calls(model, threads) if batch_size is None else Calls(threads, threads, batch_size)
    kind = OnnxRuntimeBackend if precision == "exact" else Int8Backend
    return kind(model, best.threads, best.batch_size, calls=best.calls)
