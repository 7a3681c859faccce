"""Snakemake's dry-run of a campaign of many partitions: time and memory.

One file holds as many events of one hit as partitions are wanted, and every event is a partition. The dry-run comes after
catalog and partition, which are not part of its time.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import yaml

from common import report, run
from protosonic.campaign.launch import workflow_folder
from protosonic.detectors import load_detector
from protosonic.events.model import HIT_FIELDS, Event, EventId, Hits, Waveforms
from protosonic.events.native import NativeWriter


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
        measured = run(*command, "--dry-run", "--quiet", "rules")
    report(
        f"Dry-run of {options.partitions:,} partitions",
        [
            {
                "seconds": measured.seconds,
                "CPU seconds": measured.cpu_seconds,
                "memory [MB]": measured.max_rss_mb,
            }
        ],
        options.json,
    )


if __name__ == "__main__":
    main()
