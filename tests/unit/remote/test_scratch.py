"""Copies on the scratch disk do not outlive their jobs, however these end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from protosonic.errors import ResourceError
from protosonic.remote.scratch import ScratchCopy, scratch_file

HOLD = """
import sys, time
from protosonic.remote.scratch import scratch_file
with scratch_file() as file:
    file.write(b"x" * 1000)
    file.flush()
    print(file.name, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_copies_of_killed_jobs_are_removed_and_those_of_running_jobs_are_not(folder):
    def job() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    with job() as killed, job() as running:
        paths = [Path(each.stdout.readline().strip()) for each in (killed, running)]
        killed.kill()
        killed.wait()
        for path in (*paths, folder / "other.scratch"):
            path.touch()
            os.utime(path, (1000, 1000))
        with scratch_file() as mine:
            left = {path.name for path in folder.iterdir()}
            assert left == {paths[1].name, "other.scratch", Path(mine.name).name}
        running.communicate()
    assert running.returncode == 0
    assert [path.name for path in folder.iterdir()] == ["other.scratch"]


def test_disk_that_fills_up_is_a_resource_problem(folder):
    with scratch_file() as file, Path("/dev/full").open("wb", buffering=0) as full:
        part = ScratchCopy(file)
        part._scratch = full
        with pytest.raises(ResourceError) as caught:
            part.append(b"x")
    assert caught.value.exit_code == ResourceError.exit_code
