"""Running real campaigns in tests: the installed command, in a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

BIN = Path(sys.executable).parent
CPU_ONLY = {"policy": "cpu-only", "threads": 1}


@dataclass
class CampaignRun:
    """A campaign in a folder.

    Attributes
    ----------
    workdir
        The working directory.
    config
        Sections of the configuration; the CPU is the default backend.
    view
        What a run shows; tests read from Snakemake's own messages what it did.
    """

    workdir: Path
    config: dict[str, Any]
    name: str = "test"
    view: str = "snakemake"
    outputs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.workdir.mkdir(parents=True, exist_ok=True)

    @property
    def config_file(self) -> Path:
        return self.workdir / "config.yaml"

    def write_config(self) -> Path:
        content = {"campaign": {"name": self.name}, "inference": CPU_ONLY} | self.config
        self.config_file.write_text(yaml.safe_dump(content))
        return self.config_file

    def command(self, *arguments: str, cores: int = 2) -> list[str]:
        self.write_config()
        return [
            str(BIN / "protosonic"),
            "run",
            str(self.config_file),
            "--workdir",
            str(self.workdir),
            "--cores",
            str(cores),
            "--view",
            self.view,
            *(["--", *arguments] if arguments else []),
        ]

    def run(self, *arguments: str, cores: int = 2, expect: int = 0) -> str:
        """Run to the end and return everything that was printed; the exit code must be as expected."""
        process = subprocess.run(
            self.command(*arguments, cores=cores),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env=clean_environment(),
        )
        self.outputs.append(process.stdout)
        assert process.returncode == expect, process.stdout
        return process.stdout

    @property
    def results(self) -> Path:
        return self.workdir / "results" / self.name

    @property
    def work(self) -> Path:
        return self.workdir / "work" / self.name

    def hits(self) -> pa.Table:
        """The whole dataset in the order of its files."""
        return pa.concat_tables(pq.read_table(path) for path in sorted(self.results.glob("hits/*.parquet")))

    def accounting(self) -> list[dict[str, Any]]:
        return pq.read_table(self.results / "accounting.parquet").to_pylist()

    def campaign(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.results / "campaign.json").read_text())
        return content

    def verify(self) -> None:
        protosonic("verify", str(self.workdir), "--campaign", self.name, "--inputs")


def clean_environment() -> dict[str, str]:
    """The environment without what an outer campaign may have set, and without an activated environment.

    Jobs may keep compiled modules, as they do for a user: a campaign is a dozen short processes.
    """
    unwanted = ("PROTOSONIC", "SNAKEMAKE", "PYTHONDONTWRITEBYTECODE")
    return {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}


def protosonic(
    *arguments: str, cwd: Path | None = None, expect: int = 0, environment: dict[str, str] | None = None
) -> str:
    """Run a command and return what it printed; the exit code must be as expected."""
    process = subprocess.run(
        [str(BIN / "protosonic"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=cwd,
        env=environment or clean_environment(),
    )
    assert process.returncode == expect, process.stdout
    return process.stdout


def assert_same_hits(
    found: pa.Table, expected: pa.Table, tolerance: float = 1e-6, *, except_for: tuple[str, ...] = ()
) -> None:
    """Row for row the same table; scores within the tolerance."""
    scores = ["track", "em", "none", "michel"]
    assert found.schema.equals(expected.schema)
    exact = [name for name in found.column_names if name not in {*scores, *except_for}]
    assert found.select(exact).equals(expected.select(exact))
    for name in scores:
        difference = abs(found[name].to_numpy() - expected[name].to_numpy())
        assert difference.max(initial=0) <= tolerance, name
