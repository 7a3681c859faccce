from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protosonic.errors import IncompleteError
from support.campaign import CampaignRun, protosonic
from support.models import linear_weights, write_linear_model
from support.poison import MOST_CHARGE, write_poisoned_file

CampaignFactory = Callable[..., CampaignRun]


@pytest.fixture(scope="session")
def linear_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of known weights; it is fast, and the one of all tests that do not ask for another."""
    return write_linear_model(tmp_path_factory.mktemp("model") / "linear.onnx", linear_weights())


@pytest.fixture
def make_campaign(tmp_path: Path, linear_model: Path) -> CampaignFactory:
    """Make a campaign in a folder of its own below the test's."""

    def make(folder: str = "run", *, name: str = "test", **config: Any) -> CampaignRun:
        return CampaignRun(tmp_path / folder, {"model": {"path": str(linear_model)}} | config, name)

    return make


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three small simulated files of two events each."""
    folder = tmp_path_factory.mktemp("simulated")
    protosonic("simulate", str(folder), "--files", "3", "--events", "2", "--hits", "400", "--seed", "7")
    return folder


@pytest.fixture(scope="session")
def quiet(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> CampaignRun:
    """An undisturbed campaign over the simulated files with the network, to compare others with."""
    campaign = CampaignRun(tmp_path_factory.mktemp("quiet"), {"inputs": [{"path": f"{simulated}/*.h5"}]})
    campaign.run()
    return campaign


@pytest.fixture(scope="session")
def linear(simulated: Path, linear_model: Path, tmp_path_factory: pytest.TempPathFactory) -> CampaignRun:
    """An undisturbed campaign over the simulated files with the fast model; its inputs lie in its own folder."""
    workdir = tmp_path_factory.mktemp("linear")
    shutil.copytree(simulated, workdir / "data")
    campaign = CampaignRun(workdir, {"inputs": [{"path": "data/*.h5"}], "model": {"path": str(linear_model)}})
    campaign.run()
    campaign.verify()
    return campaign


@pytest.fixture
def finished(linear: CampaignRun, tmp_path: Path) -> CampaignRun:
    """A copy of the finished campaign with the fast model, to go on with."""
    shutil.copytree(linear.workdir, tmp_path / "finished")
    return CampaignRun(tmp_path / "finished", dict(linear.config))


@pytest.fixture(scope="session")
def poisoned(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> CampaignRun:
    """A campaign over the simulated files and one on which the model gives no numbers, as it ended."""
    workdir = tmp_path_factory.mktemp("poisoned")
    shutil.copytree(simulated, workdir / "data")
    write_poisoned_file(workdir / "data" / "poison.h5")
    write_linear_model(workdir / "model.onnx", linear_weights(), most_charge=MOST_CHARGE)
    campaign = CampaignRun(workdir, {"inputs": [{"path": "data/*.h5"}], "model": {"path": "model.onnx"}})
    campaign.run("--retries", "2", expect=IncompleteError.exit_code)
    return campaign


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[CampaignRun], CampaignRun]:
    """Make a copy of a campaign, to go on with."""

    def copy(campaign: CampaignRun) -> CampaignRun:
        shutil.copytree(campaign.workdir, tmp_path / "copy")
        return CampaignRun(tmp_path / "copy", dict(campaign.config))

    return copy
