"""The infer stage against bare ONNX Runtime on the same patches, in one run.

Bare ONNX Runtime gets the patches ready-made in memory and its best batch size; the infer stage reads the unit file,
cuts the patches, scores them and writes Parquet. Rounds alternate, so that both see the same neighbours on the machine;
the ratio is the median over rounds. Also prints the peak memory of the jobs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import yaml

from common import report, run
from protosonic.campaign.records import PartitionStatus, read_record
from protosonic.images.unit import UnitReader
from protosonic.stages.infer import patch_batches

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCHES = (32, 64, 128, 256, 512)


class Bare:
    """ONNX Runtime as a careful user would call it."""

    def __init__(self, model: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def seconds(self, patches: NDArray[np.float32], batch: int) -> float:
        """Time one pass over the patches."""
        start = time.monotonic()
        for first in range(0, len(patches), batch):
            self.session.run(None, {"main_input": patches[first : first + batch]})
        return time.monotonic() - start

    def best_batch(self, patches: NDArray[np.float32]) -> int:
        """Find the best batch size on a sample."""
        sample = patches[:4096]
        self.seconds(sample, 128)
        return min(BATCHES, key=lambda batch: min(self.seconds(sample, batch) for _ in range(2)))


def prepare(folder: Path, hits: int, threads: int) -> tuple[list[str], Path, Path]:
    """Simulate one event and prepare its unit file; gives the arguments of the infer command."""
    run("protosonic", "simulate", folder, "--hits", str(hits))
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
    parser.add_argument("--hits", type=int, default=50_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments, unit_file, model = prepare(folder, options.hits, options.threads)
        # First, while this process is small: a child's peak counts from the size of its parent.
        peak = run("protosonic", "infer", *arguments).max_rss_mb
        with UnitReader(unit_file) as unit:
            batches = patch_batches(unit.events(), unit.profile, 1024, blank_duplicates=False)
            patches = np.concatenate([batch.patches for batch in batches])[..., None]
        bare = Bare(model, options.threads)
        batch = bare.best_batch(patches)
        for number in range(options.rounds):
            seconds = bare.seconds(patches, batch)
            measured = run("protosonic", "infer", *arguments)
            stage = read_record(folder / "status.json", PartitionStatus).seconds
            rows.append(
                {
                    "round": number,
                    "bare [hits/s]": len(patches) / seconds,
                    "stage [hits/s]": len(patches) / stage,
                    "stage / bare": seconds / stage,
                    "whole command / bare": seconds / measured.seconds,
                }
            )
    report(
        f"Infer stage against bare ONNX Runtime: {len(patches):,} hits, {options.threads} threads, batch {batch}",
        rows,
        options.json,
        stage_over_bare=statistics.median(row["stage / bare"] for row in rows),
        command_over_bare=statistics.median(row["whole command / bare"] for row in rows),
        infer_peak_rss_mb=peak,
    )


if __name__ == "__main__":
    main()
