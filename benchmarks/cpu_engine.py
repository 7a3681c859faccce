"""The sparse engine against bare ONNX Runtime, on the same hits with the same threads, in one run.

Bare ONNX Runtime gets the patches ready-made in memory at its best batch size; the engine gets the sparse plane images
and the places of the hits, as in a campaign, and makes them dense itself. Both run in a process of their own, loaded and warm. Rounds alternate, so that both see
the same neighbours on the machine; the ratio is the median over rounds. Before, the scores of both are compared.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from common import report, run
from inference import Bare
from protosonic.events.formats import open_events
from protosonic.events.model import Event
from protosonic.events.reader import ReaderOptions
from protosonic.images.profiles import load_profile
from protosonic.images.unit import UnitEvent, prepare_event
from protosonic.inference.sparse_backend import SparseBackend
from protosonic.inference.sparse_engine.engine import default_kernel
from protosonic.inference.sparse_engine.recognise import recognise
from protosonic.inference.untrained import write_untrained_model
from protosonic.stages.infer import hit_batches

PROFILE = "protodune-sp-2021"
SAMPLE = 8_192
"""Patches that bare ONNX Runtime gets: what it takes for one does not depend on what is in it."""


def read_unit(source: Path, options: ReaderOptions) -> UnitEvent:
    """Prepare the first event of a file."""
    with open_events(source, options) as file:
        event = next(iter(file.read()))
        assert isinstance(event, Event)
        return prepare_event(event, load_profile(PROFILE), (0, 1, 2))


class Engine:
    """The sparse engine in a process of its own."""

    def __init__(self, model: Path, unit: UnitEvent, threads: int) -> None:
        self._process = ProcessPoolExecutor(
            1, mp_context=get_context("spawn"), initializer=_load, initargs=(str(model), unit, threads)
        )

    def scores(self) -> np.ndarray:
        """Compute the scores of all hits."""
        scores: np.ndarray = self._process.submit(_scores).result()
        return scores

    def seconds(self) -> tuple[float, float, str, float]:
        """Time one pass: wall and CPU seconds, the kernel, and the peak memory of the process in MB."""
        result: tuple[float, float, str, float] = self._process.submit(_engine_seconds).result()
        return result


_loaded: dict[str, Any] = {}


def _load(model: str, unit: UnitEvent, threads: int) -> None:
    weights = recognise(Path(model))
    assert weights is not None
    backend = SparseBackend(weights, load_profile(PROFILE).zero_level, threads, what=model)
    [hits, *_] = hit_batches([unit], load_profile(PROFILE), 1, blank_duplicates=False)
    size = backend.batch_size
    _loaded["backend"] = backend
    _loaded["pieces"] = [hits.cut(first, size) for first in range(0, len(hits), size)]
    _loaded["pool"] = ThreadPoolExecutor(threads)


def _scores() -> np.ndarray:
    return np.concatenate(list(_loaded["pool"].map(_loaded["backend"].score, _loaded["pieces"])))


def _engine_seconds() -> tuple[float, float, str, float]:
    wall, cpu = time.monotonic(), time.process_time()
    _scores()
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    return wall, cpu, default_kernel().name, peak_mb()


def peak_mb() -> float:
    """Give the peak memory of this process in MB."""
    # Not getrusage: its peak starts from the size of the parent.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def compare(
    name: str, unit: UnitEvent, model: Path, threads: int, rounds: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Measure one event; gives the rows of the table and the facts."""
    batches = hit_batches([unit], load_profile(PROFILE), 1024, blank_duplicates=False)
    patches = np.concatenate([batch.patches() for batch in batches])[:SAMPLE]
    engine = Engine(model, unit, threads)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    some = np.linspace(0, len(patches) - 1, 2048).astype(int)
    expected = np.concatenate(
        [
            np.concatenate(session.run(None, {"main_input": patches[part, ..., None]}), axis=1)
            for part in np.split(some, 16)
        ]
    )
    difference = float(np.abs(engine.scores()[some] - expected).max())
    rows: list[dict[str, Any]] = []
    peak = 0.0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "patches.npy")
        np.save(file, patches[..., None])
        bare = Bare(model, file, threads)
        for number in range(rounds):
            bare_rate = len(patches) / bare.seconds()
            seconds, cpu, kernel, peak = engine.seconds()
            rows.append(
                {
                    "event": name,
                    "hits": unit.n_hits,
                    "round": number,
                    "kernel": kernel,
                    "batch of bare": bare.batch,
                    "bare [hits/s]": bare_rate,
                    "engine [hits/s]": unit.n_hits / seconds,
                    "engine / bare": unit.n_hits / seconds / bare_rate,
                    "busy threads": cpu / seconds,
                }
            )
    facts = {
        f"{name}: engine over bare": statistics.median(row["engine / bare"] for row in rows),
        f"{name}: largest difference of a score": f"{difference:.1e}",
        f"{name}: peak RSS of the engine's process [MB]": peak,
    }
    return rows, facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hits", type=int, default=50_000, help="hits of the simulated event")
    parser.add_argument("--real", type=Path, help="the ProtoDUNE-HD frames of Wire-Cell, a .tar.bz2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    facts: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "model.onnx"
        write_untrained_model(model)
        run("protosonic", "simulate", folder / "data", "--events", "1", "--hits", str(options.hits))
        units = {"simulated": read_unit(next((folder / "data").glob("*.h5")), ReaderOptions())}
        if options.real:
            units["ProtoDUNE-HD"] = read_unit(
                options.real, ReaderOptions(detector="protodune-hd", charge_scale=1e-3)
            )
        for event, unit in units.items():
            more_rows, more_facts = compare(event, unit, model, options.threads, options.rounds)
            rows += more_rows
            facts |= more_facts
    report(f"Sparse engine against bare ONNX Runtime, {options.threads} threads", rows, options.json, **facts)


if __name__ == "__main__":
    main()
