"""How ONNX Runtime is called best on this machine, measured once for each model and kept."""

from __future__ import annotations

import json
import logging
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnxruntime

from protosonic.inference.golden import golden_patches
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.publish import publish_json, sha256_of, sha256_of_json
from protosonic.user_cache import cache_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BATCH_SIZES", "Calls", "Way", "measure_calls", "tuned_calls", "ways"]

BATCH_SIZES = (32, 64, 128, 256)
"""Larger batches are hardly faster, and hold 0.4 MB of activations a patch."""
FIRST_BATCH_SIZE = 128
"""At which the ways to use the threads are compared."""
PATCHES = 256
"""Measured at a time, for each thread there is."""
ROUNDS = 3

log = logging.getLogger(__name__)


class Way(NamedTuple):
    """How threads are used: `calls` at the same time, on `threads` in all."""

    calls: int
    threads: int

    def __str__(self) -> str:
        return f"calls: {self.calls}, threads: {self.threads}"


class Calls(NamedTuple):
    """How ONNX Runtime is called.

    Attributes
    ----------
    calls
        Calls at the same time.
    threads
        Threads that they use together.
    batch_size
        Patches per call.
    """

    calls: int
    threads: int
    batch_size: int


def ways(threads: int) -> list[Way]:
    """List the ways to use at most so many threads that are worth a measurement.

    A call on each thread; half as many calls, or one, that share all threads: they read the weights less often; and
    half of the threads, since two on one core may be slower than one.
    """
    half = max(threads // 2, 1)
    found = [Way(threads, threads), Way(half, threads), Way(1, threads), Way(half, half)]
    return list(dict.fromkeys(found))


def tuned_calls(model: Path, threads: int) -> Calls:
    """Find the best way to call in the user's cache directory, or measure it: some seconds.

    It depends on the processor, the number of threads, the version of ONNX Runtime, and the model.

    Parameters
    ----------
    model
        The ONNX file.
    threads
        Most threads to use.

    Raises
    ------
    ModelError
        The file is not a model, or does not meet the contract.
    """
    what = [
        _processor(),
        os.cpu_count(),
        threads,
        onnxruntime.__version__,
        sha256_of(model),
        ways(threads),
        BATCH_SIZES,
    ]
    path = cache_folder() / "onnxruntime-calls" / f"{sha256_of_json(what)[:16]}.json"
    known = _read(path, threads)
    if known is not None:
        return known
    rates = measure_calls(model, threads)
    best = max(rates, key=lambda calls: rates[calls])
    log.info(
        "%s: best of %d ways are %s, patches a call: %d, with %.0f hits/s",
        model,
        len(rates),
        Way(best.calls, best.threads),
        best.batch_size,
        rates[best],
    )
    measured = [{**calls._asdict(), "patches_per_s": round(rate, 1)} for calls, rate in rates.items()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        publish_json(path, {**best._asdict(), "measured": measured})
    except OSError as error:
        log.info("the best way to call cannot be kept: %s", error)
    return best


def measure_calls(model: Path, threads: int) -> dict[Calls, float]:
    """Measure patches/s: of every way to use the threads at one batch size, then of the best at every other.

    Parameters
    ----------
    model, threads
        As for :func:`tuned_calls`.
    """
    with ExitStack() as stack:
        backends = {
            way: stack.enter_context(closing(OnnxRuntimeBackend(model, way.threads, calls=way.calls)))
            for way in ways(threads)
        }

        def measure(candidates: list[Calls]) -> dict[Calls, float]:
            return _rates({calls: backends[Way(*calls[:2])] for calls in candidates}, threads)

        first = measure([Calls(*way, FIRST_BATCH_SIZE) for way in backends])
        best = max(first, key=lambda calls: first[calls])
        return first | measure([best._replace(batch_size=size) for size in BATCH_SIZES])


def _rates(candidates: Mapping[Calls, OnnxRuntimeBackend], threads: int) -> dict[Calls, float]:
    """Measure patches/s of all candidates on as many patches.

    Rounds alternate, and of each candidate the best one counts: a neighbour on the machine must not decide.
    """
    golden = golden_patches()
    patches = np.tile(golden, (PATCHES // len(golden), 1, 1))
    rates = dict.fromkeys(candidates, 0.0)
    for number in range(ROUNDS + 1):
        for calls, backend in candidates.items():
            backend.batch_size = calls.batch_size
            with ThreadPoolExecutor(calls.calls) as pool:
                start = time.perf_counter()
                list(pool.map(backend.infer, [patches] * threads))
                rate = len(patches) * threads / (time.perf_counter() - start)
            if number:  # the first round is for warming up
                rates[calls] = max(rates[calls], rate)
    return rates


def _read(path: Path, threads: int) -> Calls | None:
    """Give what was found before, unless it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        known = Calls(**{name: content[name] for name in Calls._fields})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_valid = (
        all(type(value) is int for value in known)
        and known[:2] in ways(threads)
        and known.batch_size in BATCH_SIZES
    )
    return known if is_valid else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
