"""Snakemake's dry-run of a campaign of many partitions: time and memory, against a bare workflow of as many jobs.

The bare workflow has the same files and jobs, and nothing else: no log, no message, no resources. Runs alternate, so that
both see the same neighbours on the machine.

One file holds as many events of one hit as partitions are wanted, and every event is a partition. The dry-run comes after
catalog and partition, which are not part of its time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
import yaml

from common import report, run
from protosonic.campaign.launch import workflow_folder
from protosonic.detectors import load_detector
from protosonic.events.model import HIT_FIELDS, Event, EventId, Hits, Waveforms
from protosonic.events.native_writer import NativeWriter

BARE = """
PARTITIONS = range({partitions})


rule all:
    input: "merged"


rule preprocess:
    output: "units/{{i}}"
    shell: "touch {{output}}"


rule infer:
    input: "units/{{i}}"
    output: "scores/{{i}}", "status/{{i}}"
    shell: "touch {{output}}"


rule merge:
    input: expand("scores/{{i}}", i=PARTITIONS), expand("status/{{i}}", i=PARTITIONS)
    output: "merged"
    shell: "touch {{output}}"
"""


def write_events(path: Path, number: int) -> None:
    """Write a native file of events with one hit each."""
    detector = load_detector("protodune-sp")
    columns = {name: np.ones(1, dtype) for name, dtype in HIT_FIELDS.items()}
    hits = Hits(**columns, in_wire_space=np.ones(1, bool))
    charge = Waveforms.from_samples(
        hits.channel,
        np.array([6000], np.int32),
        np.zeros(1, np.int64),
        np.ones(1, np.int64),
        np.ones(1, np.float32),
    )
    with NativeWriter(path, detector) as writer:
        for entry in range(number):
            writer.write(Event(EventId(1, 0, entry + 1), entry, detector, 6000, charge, hits))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--partitions", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_events(folder / "events.h5", options.partitions)
        config = {"inputs": [{"path": "events.h5"}], "partition": {"target_hits": 1}}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        snakefile = workflow_folder() / "workflow" / "Snakefile"
        command: list[str | Path] = [
            "snakemake",
            "--snakefile",
            snakefile,
            "--directory",
            folder,
            "--configfile",
            folder / "config.yaml",
        ]
        run(*command, "--cores", "2", "--until", "partition")
        (folder / "bare").mkdir()
        (folder / "bare" / "Snakefile").write_text(BARE.format(partitions=options.partitions))
        dry_run = ("--cores", "2", "--dry-run", "--quiet", "rules")
        rows = []
        for number in range(options.rounds):
            bare = run("snakemake", "--directory", folder / "bare", *dry_run, cwd=folder / "bare")
            measured = run(*command, *dry_run)
            rows.append(
                {
                    "round": number,
                    "campaign [s]": measured.seconds,
                    "bare [s]": bare.seconds,
                    "campaign / bare": measured.seconds / bare.seconds,
                    "memory [MB]": measured.max_rss_mb,
                }
            )
    report(
        f"Dry-run of {options.partitions:,} partitions",
        rows,
        options.json,
        campaign_over_bare=statistics.median(row["campaign / bare"] for row in rows),
    )


if __name__ == "__main__":
    main()
