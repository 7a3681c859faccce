"""The batch size that suits ONNX Runtime on this machine, measured once for each model and kept."""

from __future__ import annotations

import json
import logging
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from protosonic.inference.golden import golden_patches
from protosonic.publish import publish_json, sha256_of, sha256_of_json
from protosonic.user_cache import cache_folder

if TYPE_CHECKING:
    from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend

__all__ = ["CANDIDATES", "DEFAULT", "measure_rates", "tuned_batch_size"]

CANDIDATES = (32, 64, 128, 256)
"""Larger batches are hardly faster, and hold 0.4 MB of activations a patch."""
DEFAULT = 256
"""Where nothing can be measured."""
ROUNDS = 3

log = logging.getLogger(__name__)


def tuned_batch_size(backend: OnnxRuntimeBackend, model: Path) -> int:
    """Find the best batch size in the user's cache directory, or measure it: some seconds.

    It depends on the processor, the number of threads, the version of ONNX Runtime, and the model.

    Parameters
    ----------
    backend
        The backend; nothing else may use it meanwhile.
    model
        Its ONNX file.
    """
    what = [
        _processor(),
        os.cpu_count(),
        backend.concurrency,
        onnxruntime.__version__,
        sha256_of(model),
        CANDIDATES,
    ]
    path = cache_folder() / "batch-size" / f"{sha256_of_json(what)[:16]}.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["batch_size"]
        if known in CANDIDATES:
            return int(known)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    rates = measure_rates(backend)
    best = max(rates, key=lambda size: rates[size])
    log.info("%s: %d patches a call are best: %.0f hits/s", model, best, rates[best])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        publish_json(path, {"batch_size": best, "patches_per_s": {str(size): rates[size] for size in rates}})
    except OSError as error:
        log.info("the best batch size cannot be kept: %s", error)
    return best


def measure_rates(backend: OnnxRuntimeBackend) -> dict[int, float]:
    """Measure patches/s at every batch size, with as many calls at the same time as the backend takes.

    Rounds alternate, and of each size the best one counts: a neighbour on the machine must not decide.
    """
    most = max(CANDIDATES)
    golden = golden_patches()
    patches = np.tile(golden, (-(-most // len(golden)), 1, 1))[:most]
    rates = dict.fromkeys(CANDIDATES, 0.0)
    with ThreadPoolExecutor(backend.concurrency) as pool:
        for number in range(ROUNDS + 1):
            for size in CANDIDATES:
                backend.batch_size = size
                start = time.perf_counter()
                list(pool.map(backend.infer, [patches] * backend.concurrency))
                rate = most * backend.concurrency / (time.perf_counter() - start)
                if number:  # the first round is for warming up
                    rates[size] = max(rates[size], rate)
    return rates


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
