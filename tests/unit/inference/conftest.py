from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.faults.scripted_server import ScriptedServer
from support.models import linear_weights, write_linear_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that meets the contract."""
    return write_linear_model(tmp_path_factory.mktemp("model") / "linear.onnx", linear_weights())


@pytest.fixture
def server(model: Path) -> Iterator[ScriptedServer]:
    """A server of the model that answers rightly until it is told otherwise."""
    with ScriptedServer(model) as scripted:
        yield scripted
