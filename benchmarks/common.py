"""What the benchmarks share: the machine, running commands, and output as a table and JSON."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

BIN = Path(sys.executable).parent


class Measured(NamedTuple):
    """What a command took."""

    seconds: float
    cpu_seconds: float
    max_rss_mb: float


def machine() -> dict[str, Any]:
    """Describe the machine and the versions that matter."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("protosonic", "onnxruntime", "numpy", "snakemake")},
    }


def run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> Measured:
    """Run a command of this environment; the memory is that of its largest process."""
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [str(BIN / command[0]), *map(str, command[1:])],
            cwd=cwd,
            env=os.environ | (env or {}),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        # Popen.wait would not give the resources of this process and its children.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            print(output.read())
            sys.exit(process.returncode)
    return Measured(time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def report(title: str, rows: list[dict[str, Any]], output: Path | None = None, **facts: Any) -> None:
    """Print rows as a table, and everything as JSON to a file where one is named."""
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(
            *(f"{value:,.3g}" if isinstance(value, float) else str(value) for value in row.values())
        )
    console = Console()
    console.print(table)
    for name, value in facts.items():
        console.print(f"{name}: {value:.3f}" if isinstance(value, float) else f"{name}: {value}")
    console.print(f"machine: {machine()}")
    if output:
        content = {"title": title, "rows": rows, **facts, "machine": machine()}
        output.write_text(json.dumps(content, indent=2) + "\n")
