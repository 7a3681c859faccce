"""A whole campaign, files to dataset with Snakemake, against bare ONNX Runtime on as many patches, in one run.

Bare ONNX Runtime is measured before and after the campaign, on real patches of these events at its best batch size.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import yaml

from common import report, run
from inference import Bare
from protosonic.campaign.layout import Layout
from protosonic.campaign.provenance import read_campaign
from protosonic.events.formats import open_events
from protosonic.events.model import Event
from protosonic.events.reader import ReaderOptions
from protosonic.images.profiles import load_profile
from protosonic.images.unit import prepare_event
from protosonic.inference.untrained import write_untrained_model
from protosonic.stages.infer import hit_batches

SAMPLE = 16_384


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10)
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--hits", type=int, default=50_000)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        per_file = str(options.events // options.files)
        run(
            "protosonic",
            "simulate",
            folder / "data",
            "--files",
            str(options.files),
            "--events",
            per_file,
            "--hits",
            str(options.hits),
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
        before = bare.seconds()
        whole = run(
            "protosonic", "run", folder / "config.yaml", "--workdir", folder, "--cores", str(options.cores)
        )
        after = bare.seconds()
        campaign = read_campaign(layout)
        hits = campaign["totals"]["hits_done"]
        jobs: dict[str, float] = {}
        for path in sorted((layout.work / "benchmarks").rglob("*.jsonl")):
            rule = path.stem if path.parent.name == "benchmarks" else path.parent.name
            for line in path.read_text().splitlines():
                jobs[rule] = max(jobs.get(rule, 0), json.loads(line)["max_rss"] or 0)
    rate = 2 * n_patches / (before + after)
    report(
        f"Whole campaign: {options.events} events in {options.files} files, {hits:,} hits, {options.cores} cores",
        [
            {"what": "bare ONNX Runtime", "seconds": hits / rate, "hits/s": rate},
            {"what": "campaign, wall", "seconds": whole.seconds, "hits/s": hits / whole.seconds},
            {
                "what": "infer jobs",
                "seconds": campaign["inference_seconds"],
                "hits/s": hits / campaign["inference_seconds"],
            },
        ],
        options.json,
        campaign_over_bare=hits / whole.seconds / rate,
        campaign_cpu_seconds=whole.cpu_seconds,
        largest_process_mb=whole.max_rss_mb,
        sampled_peak_rss_mb_by_rule=jobs,
        bare_batch=bare.batch,
    )


if __name__ == "__main__":
    main()
