from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from integration.serving import ServeProcess
from protosonic.inference.bundled import bundled_model
from protosonic.serving.environment import find_or_create_environment
from protosonic.serving.repository import ServedModel, write_repository
from protosonic.serving.server import Ports, TritonServer, choose_ports
from support.campaign import CampaignRun, protosonic
from support.models import linear_weights, write_linear_model

INPUT = "main_input:0"
SUFFIXED = ("em_trk_none_netout/Softmax:0", "michel_netout/Sigmoid:0")


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    """The bundled model, served; stopped and killed servers belong into tests that start their own."""
    with ServeProcess(tmp_path_factory.mktemp("serve")) as process:
        yield process


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX file of the bundled model."""
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    shutil.copyfile(bundled_model(), path)
    return path


@pytest.fixture(scope="session")
def linear_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tensors have the names that a conversion gives."""
    path = tmp_path_factory.mktemp("linear") / "linear.onnx"
    return write_linear_model(path, linear_weights(), output_names=SUFFIXED, input_name=INPUT)


@pytest.fixture(scope="session")
def odd_server(tmp_path_factory: pytest.TempPathFactory, linear_model: Path) -> Iterator[str]:
    """URL of a server with models that go wrong, and one that does not.

    ``suffixed`` is all right; ``wide`` declares four columns; ``lying`` declares three and returns four; ``nan``
    returns NaN.
    """
    folder = tmp_path_factory.mktemp("odd")
    repository = folder / "repository"
    weights = linear_weights()
    wide = write_linear_model(folder / "wide.onnx", weights, widths=(4, 1))
    nan = write_linear_model(folder / "nan.onnx", np.full_like(weights, np.nan))
    write_repository(repository, linear_model, ServedModel("suffixed", "3", instances=2, max_batch_size=500))
    write_repository(repository, linear_model, ServedModel("wide"))
    write_repository(repository, linear_model, ServedModel("lying"))
    write_repository(repository, nan, ServedModel("nan"))
    for name in ("wide", "lying"):
        (repository / name / "1" / "model.onnx").write_bytes(wide.read_bytes())
    config = repository / "wide" / "config.pbtxt"
    config.write_text(config.read_text().replace("dims: [ 3 ]", "dims: [ 4 ]"))
    ports = choose_ports(Ports(0, 0, 0))
    with TritonServer(find_or_create_environment(), repository, ports, folder / "server.log") as server:
        server.wait_until_ready("suffixed", "3")
        yield server.url


@pytest.fixture
def nobody() -> Iterator[str]:
    """URL at which nobody listens, and cannot as long as the test runs."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"grpc://127.0.0.1:{holder.getsockname()[1]}"


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three small files of two events each."""
    folder = tmp_path_factory.mktemp("simulated")
    protosonic("simulate", str(folder), "--files", "3", "--events", "2", "--hits", "400", "--seed", "3")
    return folder


@pytest.fixture(scope="session")
def cpu_campaign(tmp_path_factory: pytest.TempPathFactory, simulated: Path) -> CampaignRun:
    """The campaign that the others are compared with: all on the CPU, one partition for each event."""
    config = {"inputs": [{"path": f"{simulated}/*.h5"}], "partition": {"target_hits": 1}}
    campaign = CampaignRun(tmp_path_factory.mktemp("cpu"), config)
    campaign.run()
    return campaign
