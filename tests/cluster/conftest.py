from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.campaigns import SlurmCampaign
from cluster.slurm import SlurmCluster
from support.campaign import CampaignRun, protosonic
from support.models import linear_weights, write_linear_model

CampaignFactory = Callable[..., SlurmCampaign]


@pytest.fixture(scope="session")
def the_slurm() -> Iterator[SlurmCluster]:
    with SlurmCluster() as cluster:
        yield cluster


@pytest.fixture
def slurm(the_slurm: SlurmCluster) -> Iterator[SlurmCluster]:
    """A cluster of four nodes with accounting; what a failed test leaves in its queue is cancelled."""
    yield the_slurm
    the_slurm.cancel_all()


@pytest.fixture(scope="session")
def linear_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_linear_model(tmp_path_factory.mktemp("model") / "linear.onnx", linear_weights())


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four small simulated files of three events each."""
    folder = tmp_path_factory.mktemp("simulated")
    protosonic("simulate", str(folder), "--files", "4", "--events", "3", "--hits", "150", "--seed", "7")
    return folder


@pytest.fixture(scope="session")
def config(simulated: Path, linear_model: Path) -> dict[str, Any]:
    """Every event is a partition."""
    return {
        "inputs": [{"path": f"{simulated}/*.h5"}],
        "model": {"path": str(linear_model)},
        "partition": {"target_hits": 1},
    }


@pytest.fixture(scope="session")
def quiet(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> CampaignRun:
    """The same campaign on this machine, undisturbed."""
    campaign = CampaignRun(tmp_path_factory.mktemp("quiet"), config)
    campaign.run()
    return campaign


@pytest.fixture
def make_campaign(slurm: SlurmCluster, config: dict[str, Any], tmp_path: Path) -> CampaignFactory:
    """Make a campaign on the cluster, in the test's folder."""

    def make(**changes: Any) -> SlurmCampaign:
        return SlurmCampaign(tmp_path / "run", config | changes, cluster=slurm)

    return make
