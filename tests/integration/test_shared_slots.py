"""Two campaigns at once at one endpoint that takes few clients."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.faults.disturbed import Disturbed, Prepared
from integration.faults.proxy import FaultProxy
from integration.faults.servers import FaultyServer, Repository
from support.campaign import clean_environment
from support.models import linear_weights, write_linear_model

CONNECTIONS = 2
"""That of the client with the slot, and that of the one before, which gRPC may close a little later."""


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    model = write_linear_model(tmp_path / "model.onnx", linear_weights(0))
    return Prepared.make(tmp_path / "campaign", model)


@pytest.fixture
def server(tmp_path: Path, prepared: Prepared) -> Iterator[FaultyServer]:
    repository = Repository(tmp_path / "repository", prepared.model)
    repository.control(seconds_per_call=0.05)
    with FaultyServer(repository, tmp_path / "server") as server:
        yield server


def together(*campaigns: Disturbed) -> None:
    """Run campaigns at the same time."""
    processes = [
        subprocess.Popen(
            campaign.run.command(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=clean_environment(),
        )
        for campaign in campaigns
    ]
    for process in processes:
        output, _ = process.communicate()
        assert process.returncode == 0, output


def test_campaigns_share_the_clients_of_an_endpoint(
    prepared: Prepared, server: FaultyServer, tmp_path: Path
) -> None:
    most = {}
    for name, options in {
        "one slot": {"slots_folder": str(tmp_path / "slots"), "slots": 1},
        "no limit": {},
    }.items():
        with FaultProxy(server.ports.grpc) as proxy:
            campaigns = [
                prepared.at(tmp_path / name / str(number), proxy.url, policy="endpoint-only", **options)
                for number in range(2)
            ]
            together(*campaigns)
            most[name] = proxy.most_live
            for campaign in campaigns:
                assert campaign.hits_by == {proxy.url: prepared.hits}
                campaign.run.verify()
    assert most["one slot"] <= CONNECTIONS
    assert most["no limit"] > CONNECTIONS
