"""Stands before the real bindings on the path: all of them but the daemon, whose jobs run on this machine.

Submit descriptions, event logs and their reader are HTCondor's own; only what ``Schedd`` would ask a daemon is done here.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

_spec = importlib.machinery.PathFinder.find_spec("htcondor2", [os.environ["PROTOSONIC_TEST_PLUGINS"]])
_real = importlib.util.module_from_spec(_spec)
sys.modules["htcondor2"] = _real
_spec.loader.exec_module(_real)

_clusters = itertools.count(1)
_writing = threading.Lock()
# The reader wants the event in full.
_USAGES = ("Run Remote", "Run Local", "Total Remote", "Total Local")
_BYTES = ("Run Bytes Sent", "Run Bytes Received", "Total Bytes Sent", "Total Bytes Received")


class _Result:
    def __init__(self, cluster):
        self._cluster = cluster

    def cluster(self):
        return self._cluster


class Schedd:
    """Runs every job at once, in an environment as bare as that of a worker node."""

    def submit(self, description):
        cluster = next(_clusters)
        job = {key: value.replace("$(ClusterId)", str(cluster)) for key, value in description.items()}
        record = Path(os.environ["PROTOSONIC_TEST_RECORD"])
        (record / f"{os.getpid()}-{cluster}.json").write_text(json.dumps(job))
        _event(job, cluster, "000", "Job submitted from host: <127.0.0.1:9618>")
        held = record / f"hold-{job['batch_name'].rpartition('-')[0]}"
        if held.exists():
            held.unlink()
            _event(
                job,
                cluster,
                "012",
                "Job was held.",
                "Memory usage exceeded request_memory",
                "Code 34 Subcode 0",
            )
        else:
            threading.Thread(target=_run, args=(job, cluster), daemon=True).start()
        return _Result(cluster)

    def act(self, action, jobs):
        pass


def _run(job, cluster):
    _event(job, cluster, "001", "Job executing on host: <127.0.0.1:9618>")
    with Path(job["output"]).open("w") as output, Path(job["error"]).open("w") as error:
        code = subprocess.run(
            [job["executable"], *job["arguments"].split()],
            stdout=output,
            stderr=error,
            env={"PATH": f"{os.environ['PROTOSONIC_TEST_RECORD']}/bin:/usr/bin:/bin"},
            check=False,
        ).returncode
    usage = [f"\tUsr 0 00:00:00, Sys 0 00:00:00  -  {what} Usage" for what in _USAGES]
    usage += [f"0  -  {what} By Job" for what in _BYTES]
    _event(job, cluster, "005", "Job terminated.", f"(1) Normal termination (return value {code})", *usage)


def _event(job, cluster, number, *lines):
    text = "\n\t".join(
        [f"{number} ({cluster:03d}.000.000) {time.strftime('%Y-%m-%d %H:%M:%S')} {lines[0]}", *lines[1:]]
    )
    with _writing, Path(job["log"]).open("a") as log:
        log.write(f"{text}\n...\n")


_real.Schedd = Schedd
