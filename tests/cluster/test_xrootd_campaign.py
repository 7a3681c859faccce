"""A whole campaign whose inputs are on XRootD servers that come and go."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cluster.xrootd_server import XRootDServer
from support.campaign import CampaignRun, assert_same_hits, protosonic

IN_PLACE = {"fetch": "stream", "attempts": 1, "timeout_s": 3.0}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    protosonic("simulate", str(folder), "--files", "2", "--events", "4", "--hits", "500", "--seed", "11")
    return folder


def test_campaign_survives_its_servers_and_scores_what_local_files_give(tmp_path, simulated):
    names = sorted(path.name for path in simulated.glob("*.h5"))
    config = {"partition": {"target_hits": 1000}}
    local = CampaignRun(tmp_path / "local", config | {"inputs": [{"path": str(simulated)}]})
    local.run()
    with XRootDServer() as server, XRootDServer() as mirror:
        for path in simulated.glob("*.h5"):
            server.add(path, f"store/{path.name}")
            mirror.add(path, f"copy/{path.name}")
        mirror.kill()
        remote = CampaignRun(
            tmp_path / "remote",
            config
            | {
                "inputs": [{"path": "@list.txt"}],
                "remote": {"replicas": {f"{server.url}store/": [f"{mirror.url}copy/"]}} | IN_PLACE,
            },
        )
        urls = [f"{server.url}store/{name}" for name in names]
        (remote.workdir / "list.txt").write_text("\n".join(urls))

        server.kill()
        assert "the XRootD server failed" in remote.run(expect=10)

        server.start()
        remote.run("--until", "partition")
        server.kill()
        mirror.start()
        remote.run()

        # Nothing is left to do, and Snakemake asks no server to find that out.
        mirror.kill()
        assert "Nothing to be done" in remote.run("--dry-run")

        mirror.start()
        remote.verify()
        logs = "".join(path.read_text() for path in (remote.workdir / "work").rglob("preprocess/*.log"))
    # The first server was down.
    served = re.findall(rf"read in place from {re.escape(mirror.url)}copy/(\S+)", logs)
    assert sorted(set(served)) == names
    # Partitions are named by content, so the whole dataset is that of local files.
    assert_same_hits(remote.hits(), local.hits())
