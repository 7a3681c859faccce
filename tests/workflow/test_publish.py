"""Publishing a real campaign, and what the scripts of a publication do when they run."""

from __future__ import annotations

import json
import os
import random
import stat
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from protosonic.dataset.verification import verify_dataset
from protosonic.errors import ConfigError
from support.campaign import BIN, assert_same_hits, clean_environment, protosonic
from support.processes import kill_tree

STUB = """#!{python}
import json, os, sys
with open(os.environ["STUB_LOG"], "a") as log:
    log.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + "\\n")
sys.exit({code})
"""


@pytest.fixture
def metadata(tmp_path) -> Path:
    path = tmp_path / "metadata.yaml"
    path.write_text("core.file_type: mc\ncore.data_stream: simulation\n")
    return path


def write_script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def state_of(workdir: Path) -> str:
    state: str = json.loads(protosonic("status", str(workdir), "--json"))["state"]
    return state


def test_a_published_campaign_says_so_until_its_dataset_changes(finished, tmp_path, metadata):
    text = protosonic(
        "publish", str(finished.workdir), "--to", str(tmp_path / "out"), "--metadata", str(metadata)
    )
    assert f"{tmp_path}/out/test: published: " in text
    assert verify_dataset(tmp_path / "out" / "test") == []
    assert state_of(finished.workdir) == "published"
    [part] = [d for d in json.loads((tmp_path / "out/test/metacat.json").read_text()) if "part-" in d["name"]]
    content = (tmp_path / "out" / "test" / "hits" / "part-00000.parquet").read_bytes()
    assert part["checksums"]["adler32"] == f"{zlib.adler32(content):08x}"
    assert [parent["did"] for parent in part["parents"]] == [
        f"usertests:{Path(entry['file']).name}"
        for entry in sorted(finished.campaign()["provenance"]["inputs"], key=lambda entry: entry["file_id"])
    ]
    finished.config["merge"] = {"target_rows": 1000}
    finished.run()
    assert state_of(finished.workdir) == "complete"
    refused = protosonic(
        "publish", str(finished.workdir), "--to", str(tmp_path / "out"), expect=ConfigError.exit_code
    )
    assert "another dataset was published under this name" in refused


def test_killed_at_random_moments_publishing_never_shows_half_of_it(finished, tmp_path, metadata):
    to = tmp_path / "out"
    command = ["publish", str(finished.workdir), "--to", str(to), "--metadata", str(metadata)]
    moments = random.Random(5)
    for _ in range(8):
        process = subprocess.Popen(
            [str(BIN / "protosonic"), *command],
            env=clean_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(moments.uniform(0.4, 1.2))
        kill_tree(process)
        if (to / "test").exists():
            assert verify_dataset(to / "test") == []
            assert json.loads((to / "test" / "publication.json").read_text())["phase"] == "declared"
    protosonic(*command)
    assert verify_dataset(to / "test") == []
    assert [path.name for path in to.iterdir() if path.name != ".test.lock"] == ["test"]


def test_the_declaring_script_checks_the_files_and_calls_both_catalogs(finished, tmp_path, metadata):
    protosonic("publish", str(finished.workdir), "--to", str(tmp_path / "out"), "--metadata", str(metadata))
    folder, log = tmp_path / "out" / "test", tmp_path / "log"
    for name, code in (("rucio", 0), ("metacat", "1 if sys.argv[2] == 'show' else 0")):
        write_script(tmp_path / "bin" / name, STUB.format(python=sys.executable, code=code))
    environment = os.environ | {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "STUB_LOG": str(log),
        "RSE": "DUNE_TEST",
    }
    subprocess.run(["bash", "declare.sh"], cwd=folder, env=environment, check=True)
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    names = [line.split("\t")[0] for line in (folder / "names.tsv").read_text().splitlines()]
    uploads = [call for call in calls if call[:2] == ["rucio", "upload"]]
    assert [Path(call[-1]).name for call in uploads] == names
    for call in uploads:
        assert call[2:-1] == ["--rse", "DUNE_TEST", "--scope", "usertests", "usertests:test"]
    assert calls[len(names) :] == [
        ["metacat", "dataset", "show", "usertests:test"],
        ["metacat", "dataset", "create", "usertests:test"],
        ["metacat", "file", "declare-many", "metacat.json", "usertests:test"],
    ]
    (folder / "accounting.parquet").write_bytes(b"damaged")
    log.unlink()
    process = subprocess.run(["bash", "declare.sh"], cwd=folder, env=environment, check=False)
    assert process.returncode
    assert not log.exists()


def test_the_justin_jobscript_does_to_another_file_what_the_campaign_did(finished, tmp_path, metadata):
    # The bundled model: a job elsewhere has no other one at hand.
    finished.config["model"] = {"path": "bundled"}
    finished.run()
    protosonic("publish", str(finished.workdir), "--to", str(tmp_path / "out"), "--metadata", str(metadata))
    source = min((finished.workdir / "data").glob("*.h5"))
    write_script(
        tmp_path / "justin" / "justin-get-file",
        f"#!/bin/sh\necho hd-protodune:{source.name} {source} LOCAL\n",
    )
    job = tmp_path / "job"
    job.mkdir()
    environment = clean_environment() | {
        "JUSTIN_PATH": str(tmp_path / "justin"),
        "PROTOSONIC": str(BIN / "protosonic"),
    }
    process = subprocess.run(
        ["bash", str(tmp_path / "out" / "test" / "justin.jobscript")],
        cwd=job,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout
    assert (job / "justin-processed-pfns.txt").read_text().split() == [str(source)]
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    [part] = job.glob("test-*-part-00000.parquet")
    description = json.loads(Path(f"{part}.json").read_text())
    assert description["name"] == part.name
    assert description["parents"] == [{"did": f"hd-protodune:{source.name}"}]
    hits = pq.read_table(part)
    [file_id] = set(hits["file_id"].to_pylist())
    expected = finished.hits()
    assert_same_hits(hits, expected.filter(pc.equal(expected["file_id"], file_id)).combine_chunks())
