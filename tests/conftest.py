"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Machines that run several jobs at once are slow at times: examples have no deadline.
settings.register_profile("protosonic", deadline=None)
settings.load_profile("protosonic")


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Third-party files, for tests marked ``realdata``."""
    beside = Path(__file__).parents[1].parent / "shared" / "realdata"
    folder = Path(os.environ.get("PROTOSONIC_REALDATA", beside))
    if not folder.is_dir():
        pytest.skip(f"the third-party files are not at {folder}; set PROTOSONIC_REALDATA to their folder")
    return folder
