"""Snakemake's dry-run of a campaign of many partitions: time and memory.

One simulated file holds as many events as partitions are wanted, and every event is a partition.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import yaml

from common import report, run
from protosonic.campaign.launch import workflow_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--partitions", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run("protosonic", "simulate", folder / "data", "--events", str(options.partitions), "--hits", "1")
        config = {"inputs": [{"path": f"{folder}/data/*.h5"}], "partition": {"target_hits": 1}}
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
