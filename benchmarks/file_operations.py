"""What a partition costs the file system that a campaign lies on: calls that name a file below its working directory.

Two campaigns that differ only in how many partitions they have run under strace; the difference, divided by that of the
partitions, is what one more costs. Reading and writing of open files is not counted: metadata is what overloads the
servers of shared file systems.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import yaml

from common import BIN, report
from dry_run import write_events

CALL = re.compile(r"^(?:\[pid +\d+\] |\d+ +)?(?P<name>\w+)\((?P<rest>.*)")
PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')
KINDS = {
    "look": {"stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2", "readlink", "readlinkat", "statfs",
             "getxattr", "lgetxattr", "listxattr", "llistxattr"},
    "open": {"open", "openat", "creat"},
    "rename": {"rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"},
    "remove": {"unlink", "unlinkat", "rmdir"},
    "folder": {"mkdir", "mkdirat"},
    "attribute": {"chmod", "fchmodat", "chown", "lchown", "fchownat", "utime", "utimes", "utimensat", "setxattr"},
}  # fmt: skip
KIND_OF = {name: kind for kind, names in KINDS.items() for name in names}


def counted(partitions: int, folder: Path) -> Counter[str]:
    """Run a campaign of so many partitions, and count its calls by kind."""
    folder.mkdir()
    write_events(folder / "events.h5", partitions)
    config = {
        "campaign": {"name": "count"},
        "inputs": [{"path": str(folder / "events.h5")}],
        "partition": {"target_hits": 1},
        "inference": {"policy": "cpu-only", "threads": 1},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    workdir = folder / "run"
    trace = folder / "trace"
    subprocess.run(
        ["strace", "--follow-forks", "--string-limit=4096", "--trace=%file", f"--output={trace}",
         BIN / "protosonic", "run", folder / "config.yaml", "--workdir", workdir, "--cores", "1"],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    calls: Counter[str] = Counter()
    with trace.open(errors="replace") as lines:
        for line in lines:
            call = CALL.match(line)
            if call is None or call["name"] not in KIND_OF:
                continue
            paths = PATH.findall(call["rest"])
            # All processes of a run work in its working directory.
            if any(path and (path[0] != "/" or path.startswith(f"{workdir}/")) for path in paths):
                kind = KIND_OF[call["name"]]
                if kind == "open" and "O_CREAT" in line:
                    kind = "create"
                calls[kind] += 1
    return calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=20, help="partitions of the smaller campaign")
    parser.add_argument("--many", type=int, default=60, help="partitions of the larger one")
    parser.add_argument("--json", type=Path, help="write the result there as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        few = counted(options.few, Path(folder, "few"))
        many = counted(options.many, Path(folder, "many"))
    more = options.many - options.few
    rows = [
        {"calls": kind, f"{options.few} partitions": few[kind], f"{options.many} partitions": many[kind],
         "one more partition": (many[kind] - few[kind]) / more}
        for kind in sorted(few | many, key=lambda kind: few[kind] - many[kind])
    ]  # fmt: skip
    report(
        "Calls that name a file of the campaign",
        rows,
        options.json,
        per_partition=(many.total() - few.total()) / more,
    )


if __name__ == "__main__":
    main()
