"""A whole campaign, files to dataset with Snakemake, against its infer stage alone and bare ONNX Runtime, in one run.

The infer stage alone is the commands that the campaign calls, on the units of the same partitions, made beforehand;
as many at the same time as the campaign runs. Its rate counts from the start of the first command to the end of the
last one. Without start-up, a command counts the seconds of inference in its status only: from loading the model to the
end of the scores. Bare ONNX Runtime gets real patches of these events at its best batch size. Rounds alternate.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from common import Measured, report, run
from inference import Bare
from protosonic.campaign.layout import Layout
from protosonic.campaign.provenance import read_campaign
from protosonic.campaign.records import PartitionStatus, Plan, read_record
from protosonic.campaign.workflow import CampaignWorkflow
from protosonic.events.formats import open_events
from protosonic.events.model import Event
from protosonic.events.reader import ReaderOptions
from protosonic.images.profiles import load_profile
from protosonic.images.unit import prepare_event
from protosonic.inference.untrained import write_untrained_model
from protosonic.stages.infer import hit_batches

SAMPLE = 16_384


class Alone(NamedTuple):
    """What the infer stage alone took, in seconds: with and without the start-up of its commands."""

    seconds: float
    without_start_up: float


def save_sample(source: Path, output: Path) -> int:
    """Save patches of the first event of a file, and give their number."""
    profile = load_profile("protodune-sp-2021")
    with open_events(source, ReaderOptions()) as file:
        event = next(iter(file.read([0])))
        assert isinstance(event, Event)
        unit = prepare_event(event, profile, (0, 1, 2))
    batches = hit_batches([unit], profile, 1024, blank_duplicates=False)
    patches = np.concatenate([batch.patches() for batch in batches])[:SAMPLE][..., None]
    np.save(output, patches)
    return len(patches)


def run_campaign(folder: Path, cores: int) -> Measured:
    """Run the campaign from nothing."""
    for name in ("work", "results", ".snakemake"):
        shutil.rmtree(folder / name, ignore_errors=True)
    return run("protosonic", "run", folder / "config.yaml", "--workdir", folder, "--cores", str(cores))


def run_infer_alone(folder: Path, layout: Layout, cores: int) -> Alone:
    """Score the partitions of a finished campaign again, and nothing else."""
    settings = ("--settings", folder / "config.yaml")
    partitions = [partition.id for partition in read_record(layout.plan, Plan).partitions]
    again = folder / "again"
    for partition in partitions:
        unit, descriptor = again / f"{partition}.h5", layout.descriptor(partition)
        if not unit.exists():
            run("protosonic", "preprocess", *settings, "--descriptor", descriptor, "--output", unit)
    os.chdir(folder)
    workflow = CampaignWorkflow(yaml.safe_load((folder / "config.yaml").read_text()))
    workflow.partitions(workflow.layout.plan)
    threads = workflow.threads(partitions[0], cores)
    model = layout.model.parent

    def infer(partition: str) -> float:
        files = {
            "unit": again / f"{partition}.h5",
            "descriptor": layout.descriptor(partition),
            "model": model / "model.onnx",
            "model-record": layout.model,
            "weights": model / "weights.npz",
            "scores": again / f"{partition}.parquet",
            "status": again / f"{partition}.json",
        }
        options = [word for name, path in files.items() for word in (f"--{name}", path)]
        run("protosonic", "infer", *settings, *options, "--threads", str(threads))
        return read_record(files["status"], PartitionStatus).seconds

    at_a_time = max(cores // threads, 1)
    start = time.monotonic()
    with ThreadPoolExecutor(at_a_time) as pool:
        seconds = list(pool.map(infer, partitions))
    return Alone(time.monotonic() - start, sum(seconds) / min(at_a_time, len(partitions)))


def memory_of_rules(layout: Layout) -> dict[str, float]:
    """Give the largest memory of a job of each rule in MB, as Snakemake sampled it."""
    jobs: dict[str, float] = {}
    for path in sorted((layout.work / "benchmarks").rglob("*.jsonl")):
        rule = path.stem if path.parent.name == "benchmarks" else path.parent.name
        for line in path.read_text().splitlines():
            jobs[rule] = max(jobs.get(rule, 0), json.loads(line)["max_rss"] or 0)
    return jobs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10)
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--hits", type=int, default=50_000)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    output = options.json and options.json.absolute()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = {"files": options.files, "events": options.events // options.files, "hits": options.hits}
        run(
            "protosonic",
            "simulate",
            folder / "data",
            *(word for key, value in sizes.items() for word in (f"--{key}", str(value))),
        )
        config = {
            "campaign": {"name": "benchmark"},
            "inputs": [{"path": f"{folder}/data/*.h5"}],
            "inference": {"policy": "cpu-only"},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        layout = Layout("benchmark", folder)
        model = folder / "model.onnx"
        write_untrained_model(model)
        # In a process of its own, because the peak memory of a child counts from the size of its parent.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            sample = min((folder / "data").glob("*.h5")), folder / "patches.npy"
            n_patches = process.submit(save_sample, *sample).result()
        bare = Bare(model, folder / "patches.npy", options.cores)
        rows: list[dict[str, Any]] = []
        for number in range(options.rounds):
            before = bare.seconds()
            whole = run_campaign(folder, options.cores)
            alone = run_infer_alone(folder, layout, options.cores)
            hits = read_campaign(layout)["totals"]["hits_done"]
            rate = 2 * n_patches / (before + bare.seconds())
            rows.append(
                {
                    "round": number,
                    "campaign [s]": whole.seconds,
                    "campaign CPU [s]": whole.cpu_seconds,
                    "infer alone [s]": alone.seconds,
                    "campaign [hits/s]": round(hits / whole.seconds),
                    "infer alone [hits/s]": round(hits / alone.seconds),
                    "campaign / infer alone": alone.seconds / whole.seconds,
                    "... without start-up": alone.without_start_up / whole.seconds,
                    "campaign / bare": hits / whole.seconds / rate,
                }
            )
        jobs = memory_of_rules(layout)
        os.chdir("/")
    report(
        f"Whole campaign: {options.events} events in {options.files} files, {hits:,} hits, {options.cores} cores",
        rows,
        output,
        campaign_over_infer_alone=statistics.median(row["campaign / infer alone"] for row in rows),
        campaign_over_infer_without_start_up=statistics.median(row["... without start-up"] for row in rows),
        campaign_over_bare=statistics.median(row["campaign / bare"] for row in rows),
        largest_process_mb=whole.max_rss_mb,
        sampled_peak_rss_mb_by_rule=jobs,
        bare_batch=bare.batch,
    )


if __name__ == "__main__":
    main()
