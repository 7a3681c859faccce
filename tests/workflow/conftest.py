from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.campaign import CampaignRun, protosonic

CampaignFactory = Callable[..., CampaignRun]


@pytest.fixture
def make_campaign(tmp_path: Path) -> CampaignFactory:
    """Make a campaign in a folder of its own below the test's."""

    def make(folder: str = "run", *, name: str = "test", **config: Any) -> CampaignRun:
        return CampaignRun(tmp_path / folder, config, name)

    return make


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three small simulated files of two events each."""
    folder = tmp_path_factory.mktemp("simulated")
    protosonic("simulate", str(folder), "--files", "3", "--events", "2", "--hits", "400", "--seed", "7")
    return folder


@pytest.fixture(scope="session")
def quiet(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> CampaignRun:
    """An undisturbed campaign over the simulated files, to compare others with."""
    campaign = CampaignRun(tmp_path_factory.mktemp("quiet"), {"inputs": [{"path": f"{simulated}/*.h5"}]})
    campaign.run()
    return campaign
