"""What is sent to an endpoint is negotiated, and the scores are the same whatever it is."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from integration.serving import ServeProcess, settings
from protosonic.images.profiles import load_profile
from protosonic.inference import Client, EndpointOptions
from protosonic.inference.dispatcher import Dispatcher
from protosonic.inference.endpoint_options import IMAGE_SUFFIX
from protosonic.inference.hits import HitBatch, ImageBatch
from protosonic.inference.image_payload import MOST_CANVAS
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.serving.environment import find_or_create_environment
from protosonic.serving.repository import ServedModel, write_repository
from protosonic.serving.server import Ports, TritonServer, choose_ports
from protosonic.stages.infer import make_dispatcher
from support.campaign import CampaignRun
from support.hit_batches import on_image, random_batch
from support.image_hits import UNEVEN, gather, random_plane
from support.models import linear_weights, write_linear_model

TOLERANCE = 1e-6
NAME = "cnn"
NO_FULL_VIEW = load_profile("protodune-sp-2019")


@pytest.fixture(scope="module")
def hits() -> HitBatch:
    return random_batch((400, 60, 0, 40))


def score(dispatcher: Dispatcher, hits: HitBatch) -> tuple[np.ndarray, set[str]]:
    chunks = list(dispatcher.score([hits]))
    dispatcher.close()
    return np.concatenate([scores for scores, _ in chunks]), {
        name for _, backend in chunks for name in backend
    }


@pytest.mark.parametrize(("wanted", "used"), [("patches", "patches"), ("image", "image"), ("auto", "image")])
@pytest.mark.parametrize("limit", [{}, {"request_hits": 37}, {"request_bytes": 4 * 9216}])
def test_each_payload_gives_the_scores_of_the_cpu(
    serve: ServeProcess, model: Path, hits: HitBatch, wanted: str, used: str, limit: dict[str, Any]
) -> None:
    dispatcher = make_dispatcher(settings(serve.url, payload=wanted, **limit), model, threads=1)
    scores, backends = score(dispatcher, hits)
    expected = OnnxRuntimeBackend(model, threads=1).infer(hits.patches())
    np.testing.assert_allclose(scores, expected, rtol=0, atol=TOLERANCE)
    assert backends == {"triton"}
    [statistics] = dispatcher.statistics
    assert (statistics.payload, statistics.n_faults) == (used, 0)


@pytest.mark.parametrize("profile", [UNEVEN, NO_FULL_VIEW], ids=["uneven", "no full view"])
def test_images_work_with_every_profile(serve: ServeProcess, model: Path, profile: Any) -> None:
    hits = random_batch((100, 30), profile)
    dispatcher = make_dispatcher(settings(serve.url, payload="image"), model, threads=1)
    scores, backends = score(dispatcher, hits)
    expected = OnnxRuntimeBackend(model, threads=1).infer(hits.patches())
    np.testing.assert_allclose(scores, expected, rtol=0, atol=TOLERANCE)
    assert backends == {"triton"}


def test_an_endpoint_that_only_knows_patches_gets_patches(
    odd_server: str, linear_model: Path, hits: HitBatch
) -> None:
    configuration = settings(odd_server, name="suffixed", version="3")
    dispatcher = make_dispatcher(configuration, linear_model, threads=1)
    scores, backends = score(dispatcher, hits)
    expected = OnnxRuntimeBackend(linear_model, threads=1).infer(hits.patches())
    np.testing.assert_allclose(scores, expected, rtol=0, atol=TOLERANCE)
    assert backends == {"triton"}
    [statistics] = dispatcher.statistics
    assert (statistics.payload, statistics.n_faults) == ("patches", 0)


def test_images_that_are_asked_for_and_not_served_are_a_reason_for_the_cpu(
    odd_server: str, linear_model: Path, hits: HitBatch
) -> None:
    configuration = settings(odd_server, name="suffixed", version="3", payload="image")
    dispatcher = make_dispatcher(configuration, linear_model, threads=1)
    _, backends = score(dispatcher, hits)
    assert backends == {"onnxruntime"}
    assert f"suffixed{IMAGE_SUFFIX}" in dispatcher.fallbacks[0].reason


@pytest.fixture(scope="module")
def half_wrong(tmp_path_factory: pytest.TempPathFactory, linear_model: Path) -> Iterator[str]:
    """A server whose model for images is another one than that for patches."""
    folder = tmp_path_factory.mktemp("half-wrong")
    other = write_linear_model(folder / "other.onnx", linear_weights(seed=2))
    write_repository(folder / "models", linear_model, ServedModel(NAME))
    write_repository(folder / "models", other, ServedModel(NAME), payload="image")
    ports = choose_ports(Ports(0, 0, 0))
    with TritonServer(
        find_or_create_environment(), folder / "models", ports, folder / "server.log"
    ) as server:
        server.wait_until_ready(NAME)
        yield server.url


def test_a_wrong_model_for_images_is_not_used_and_patches_are(
    half_wrong: str, linear_model: Path, hits: HitBatch, caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher = make_dispatcher(settings(half_wrong, name=NAME), linear_model, threads=1)
    with caplog.at_level(logging.WARNING):
        scores, backends = score(dispatcher, hits)
    expected = OnnxRuntimeBackend(linear_model, threads=1).infer(hits.patches())
    np.testing.assert_allclose(scores, expected, rtol=0, atol=TOLERANCE)
    assert backends == {"triton"}
    assert dispatcher.statistics[0].payload == "patches"
    assert "not those of the local model" in caplog.text


@pytest.mark.parametrize("with_model", [True, False])
def test_the_client_library_sends_images(
    serve: ServeProcess, model: Path, hits: HitBatch, with_model: bool
) -> None:
    options = EndpointOptions(serve.url, version="1", payload="auto")
    with Client(options, model if with_model else None) as client:
        found = [client.infer(hits), *client.stream([hits.cut(0, 100), hits.cut(100, 5).patches()])]
        statistics = client.statistics
    expected = OnnxRuntimeBackend(model, threads=1).infer(hits.patches())
    for scores, first, n in zip(found, (0, 0, 100), (500, 100, 5), strict=True):
        np.testing.assert_allclose(scores, expected[first : first + n], rtol=0, atol=TOLERANCE)
    assert statistics.payload == "image"
    assert statistics.bytes_sent < 605 * 9216 / 10


def test_a_campaign_sends_images_where_they_are_served(
    tmp_path: Path, serve: ServeProcess, simulated: Path, cpu_campaign: CampaignRun
) -> None:
    inference = {"policy": "endpoint-only", "endpoints": [{"url": serve.url}]}
    config = cpu_campaign.config | {"inference": inference}
    campaign = CampaignRun(tmp_path, config)
    campaign.run()
    expected, found = cpu_campaign.hits(), campaign.hits()
    for column in ("track", "em", "none", "michel"):
        np.testing.assert_allclose(found[column], expected[column], rtol=0, atol=1e-5)
    assert set(found["backend"].to_pylist()) == {"triton"}
    uses = [
        use
        for path in campaign.work.glob("status/*.json")
        for use in json.loads(path.read_text())["backends"]
    ]
    assert {use["payload"] for use in uses} == {"image"}
    # These events have some hundred hits on each plane, which share less than those of real ones.
    assert 30 * sum(use["bytes_sent"] for use in uses) < 9216 * found.num_rows


def test_hits_far_apart_are_spread_over_requests_whose_canvas_the_server_takes(
    serve: ServeProcess, model: Path
) -> None:
    plane = random_plane(1, (16_000, 3_000), 300)
    hits = ImageBatch([on_image(plane)])
    assert gather([plane]).encode().canvas > MOST_CANVAS
    dispatcher = make_dispatcher(settings(serve.url, payload="image"), model, threads=1)
    scores, backends = score(dispatcher, hits)
    expected = OnnxRuntimeBackend(model, threads=1).infer(hits.patches())
    np.testing.assert_allclose(scores, expected, rtol=0, atol=TOLERANCE)
    assert backends == {"triton"}
    assert dispatcher.statistics[0].n_faults == 0
