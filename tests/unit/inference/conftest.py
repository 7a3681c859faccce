from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from integration.faults.scripted_server import ScriptedServer
from protosonic.inference import Client
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from support.clients import options_for
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


@pytest.fixture(scope="session")
def score(model: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """The scores of the local model."""
    return OnnxRuntimeBackend(model, threads=1).infer


@pytest.fixture
def client(server: ScriptedServer, model: Path) -> Iterator[Client]:
    """The client library, for the server."""
    with Client(options_for(server), model) as client:
        yield client
