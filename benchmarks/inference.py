"""The infer stage against bare ONNX Runtime on the same patches, in one run.

Bare ONNX Runtime gets the patches ready-made in memory, the model loaded and warm, and its best batch size; the infer
stage loads the model, reads the unit file, cuts the patches, scores them and writes Parquet. Both run in a process of
their own. Rounds alternate, so that both see the same neighbours on the machine; the ratio is the median over rounds.
Also prints the peak memory of the jobs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import yaml

from common import report, run
from protosonic.campaign.records import PartitionStatus, read_record
from protosonic.images.unit import UnitReader
from protosonic.stages.infer import hit_batches

if TYPE_CHECKING:
    from collections.abc import Callable

BATCHES = (32, 64, 128, 256, 512)


class Bare:
    """ONNX Runtime as a careful user would call it, in processes of its own.

    Parameters
    ----------
    model
        The ONNX file.
    patches
        NumPy file of float32 [n, 48, 48, 1].
    threads
        Threads of ONNX Runtime.
    """

    def __init__(self, model: Path, patches: Path, threads: int) -> None:
        self._arguments = (str(model), str(patches), threads)
        self.batch = int(self._call(_best_batch))

    def seconds(self) -> float:
        """Time one pass over the patches at the best batch size."""
        return float(self._call(_bare_seconds, self.batch))

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            return process.submit(function, *self._arguments, *arguments).result()


def _bare(model: str, patches: str, threads: int) -> tuple[Callable[[int, int], float], int]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    data = np.load(patches)

    def seconds(batch: int, n: int) -> float:
        start = time.monotonic()
        for first in range(0, n, batch):
            session.run(None, {"main_input": data[first : min(first + batch, n)]})
        return time.monotonic() - start

    return seconds, len(data)


def _best_batch(model: str, patches: str, threads: int) -> int:
    seconds, n = _bare(model, patches, threads)
    sample = min(n, 4096)
    for batch in BATCHES:
        seconds(batch, sample)
    return min(BATCHES, key=lambda batch: min(seconds(batch, sample) for _ in range(3)))


def _bare_seconds(model: str, patches: str, threads: int, batch: int) -> float:
    seconds, n = _bare(model, patches, threads)
    seconds(batch, min(n, 4096))
    return seconds(batch, n)


def prepare(folder: Path, events: int, hits: int, threads: int) -> tuple[list[str], Path, Path]:
    """Simulate a file and prepare its unit file; gives the arguments of the infer command."""
    run("protosonic", "simulate", folder, "--events", str(events), "--hits", str(hits))
    source = next(folder.glob("*.h5"))
    settings = folder / "settings.yaml"
    settings.write_text(
        yaml.safe_dump({"inputs": [{"path": str(source)}], "inference": {"policy": "cpu-only"}})
    )
    from protosonic.campaign.inputs import block_of

    run(
        "protosonic",
        "catalog",
        "--settings",
        settings,
        "--block",
        block_of(str(source)),
        "--output",
        folder / "c.json",
    )
    run(
        *(
            "protosonic",
            "partition",
            "--settings",
            settings,
            "--descriptors",
            folder / "p",
            "--plan",
            folder / "plan.json",
        ),
        folder / "c.json",
    )
    model, record = folder / "model.onnx", folder / "model.json"
    run("protosonic", "model", "prepare", "--settings", settings, "--output", model, "--record", record)
    descriptor, unit = next((folder / "p").glob("*.json")), folder / "unit.h5"
    measured = run(
        "protosonic", "preprocess", "--settings", settings, "--descriptor", descriptor, "--output", unit
    )
    print(
        f"preprocess: {measured.seconds:.2f} s, {measured.max_rss_mb:.0f} MB, unit file {unit.stat().st_size / 1e6:.2f} MB"
    )
    arguments = ["--settings", settings, "--unit", unit, "--descriptor", descriptor, "--model", model]
    arguments += [
        "--model-record",
        record,
        "--scores",
        folder / "scores.parquet",
        "--status",
        folder / "status.json",
    ]
    return [*map(str, arguments), "--threads", str(threads)], unit, model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1, help="events of the partition")
    parser.add_argument("--hits", type=int, default=50_000, help="hits of an event")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments, unit_file, model = prepare(folder, options.events, options.hits, options.threads)
        # First, while this process is small: a child's peak counts from the size of its parent.
        peak = run("protosonic", "infer", *arguments).max_rss_mb
        with UnitReader(unit_file) as unit:
            batches = hit_batches(unit.events(), unit.profile, 1024, blank_duplicates=False)
            patches = np.concatenate([batch.patches() for batch in batches])[..., None]
        hits = len(patches)
        np.save(folder / "patches.npy", patches)
        del batches, patches
        bare = Bare(model, folder / "patches.npy", options.threads)
        for number in range(options.rounds):
            seconds = bare.seconds()
            measured = run("protosonic", "infer", *arguments)
            stage = read_record(folder / "status.json", PartitionStatus).seconds
            rows.append(
                {
                    "round": number,
                    "bare [hits/s]": hits / seconds,
                    "stage [hits/s]": hits / stage,
                    "stage / bare": seconds / stage,
                    "whole command / bare": seconds / measured.seconds,
                }
            )
    report(
        f"Infer stage against bare ONNX Runtime: {hits:,} hits, {options.threads} threads, batch {bare.batch}",
        rows,
        options.json,
        stage_over_bare=statistics.median(row["stage / bare"] for row in rows),
        command_over_bare=statistics.median(row["whole command / bare"] for row in rows),
        infer_peak_rss_mb=peak,
    )


if __name__ == "__main__":
    main()
