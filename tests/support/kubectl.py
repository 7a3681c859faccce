"""Stands for ``kubectl`` and the cluster behind it: checks what it is told, and runs the command of a job here."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

RECORD = Path(os.environ["PROTOSONIC_TEST_RECORD"])
RUNNER = """
import json, subprocess, sys
manifest = json.load(open(sys.argv[1]))
container = manifest["spec"]["template"]["spec"]["containers"][0]
with open(sys.argv[1] + ".log", "w") as log:
    code = subprocess.run(container["command"], cwd=container["workingDir"], stdout=log, stderr=log,
                          env={"PATH": "/usr/bin:/bin"}).returncode
manifest["status"] = {"conditions": [{"type": "Failed" if code else "Complete", "status": "True"}]}
open(sys.argv[1] + ".part", "w").write(json.dumps(manifest))
import os; os.replace(sys.argv[1] + ".part", sys.argv[1])
"""


def fail(message: str) -> None:
    raise SystemExit(message)


def main(arguments: list[str]) -> None:
    if (RECORD / "unreachable").exists():
        fail("Unable to connect to the server: dial tcp 127.0.0.1:6443: connect: connection refused")
    if arguments[:1] == ["--namespace"]:
        arguments = arguments[2:]
    if arguments[:1] == ["create"]:
        manifest = json.load(sys.stdin)
        name = manifest["metadata"]["name"]
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name):
            fail(f"The Job {name!r} is invalid: metadata.name")
        path = RECORD / f"{name}.json"
        if path.exists():
            fail(f'Error from server (AlreadyExists): jobs.batch "{name}" already exists')
        path.write_text(json.dumps(manifest))
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        process = subprocess.Popen([sys.executable, "-c", RUNNER, str(path)], **quiet)
        (RECORD / f"{name}.pid").write_text(str(process.pid))
        sys.stdout.write(f"job.batch/{name}\n")
    elif arguments[:2] == ["get", "job"]:
        path = RECORD / f"{arguments[2]}.json"
        if not path.exists():
            fail(f'Error from server (NotFound): jobs.batch "{arguments[2]}" not found')
        sys.stdout.write(path.read_text())
    elif arguments[:2] == ["delete", "job"]:
        for name in [word for word in arguments[2:] if not word.startswith("--")]:
            os.killpg(int((RECORD / f"{name}.pid").read_text()), signal.SIGTERM)
            (RECORD / f"{name}.json").rename(RECORD / f"{name}.deleted")
    else:
        fail(f"unknown command {arguments}")


main(sys.argv[1:])
