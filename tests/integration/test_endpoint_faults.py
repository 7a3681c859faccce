"""Faults of a real server, and what the dispatcher makes of them."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import numpy as np
import pytest

from integration.serving import (
    ServeProcess,
    await_true,
    has_unread_bytes,
    settings,
    sparse_patches,
    suspended,
)
from protosonic.errors import ServiceError
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.stages.infer import make_dispatcher
from support.scoring import score_batch

PATCHES = sparse_patches(200)


def test_a_server_that_hangs_at_the_start_is_given_up_at_the_deadline(
    serve: ServeProcess, model: Path
) -> None:
    dispatcher = make_dispatcher(settings(serve.url, connect_timeout_s=1.0), model, threads=1)
    with suspended(serve.server):
        scores, backend = score_batch(dispatcher, PATCHES)
    dispatcher.close()
    assert backend == "onnxruntime"
    assert re.search("DEADLINE_EXCEEDED|timed out", dispatcher.fallbacks[0].reason)
    assert dispatcher.fallbacks[0].after_patches == 0
    expected = OnnxRuntimeBackend(model, threads=1).infer(PATCHES)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


def test_a_server_that_hangs_later_is_given_up_at_the_deadline(serve: ServeProcess, model: Path) -> None:
    dispatcher = make_dispatcher(settings(serve.url, request_timeout_s=1.0), model, threads=1)
    first, backend = score_batch(dispatcher, PATCHES)
    assert backend == "triton"
    with suspended(serve.server):
        second, backend = score_batch(dispatcher, PATCHES)
    dispatcher.close()
    assert backend == "onnxruntime"
    assert "DEADLINE_EXCEEDED" in dispatcher.fallbacks[0].reason
    assert dispatcher.fallbacks[0].after_patches == len(PATCHES)
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-5)


def test_a_server_that_hung_serves_again(serve: ServeProcess, model: Path) -> None:
    with suspended(serve.server):
        pass
    dispatcher = make_dispatcher(settings(serve.url, policy="endpoint-only"), model, threads=1)
    assert score_batch(dispatcher, PATCHES)[1] == "triton"
    dispatcher.close()


def test_a_request_in_flight_when_the_server_is_killed_is_scored_on_the_cpu(
    tmp_path: Path, model: Path
) -> None:
    with ServeProcess(tmp_path) as serve:
        dispatcher = make_dispatcher(settings(serve.url), model, threads=1)
        first, backend = score_batch(dispatcher, PATCHES)
        assert backend == "triton"
        results = []
        request = threading.Thread(target=lambda: results.append(score_batch(dispatcher, PATCHES)))
        with suspended(serve.server):
            request.start()
            await_true(lambda: has_unread_bytes(serve.url))
            serve.server.kill()
        request.join()
    dispatcher.close()
    [(second, backend)] = results
    assert backend == "onnxruntime"
    assert "UNAVAILABLE" in dispatcher.fallbacks[0].reason
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "version", "reason"),
    [
        ("another", "1", "model another version 1"),
        ("emtrkmichel", "2", "model emtrkmichel version 2"),
        ("emtrkmichel", "one", "model emtrkmichel version one"),
    ],
)
def test_a_wrong_model_name_or_version_falls_back_with_the_reason(
    serve: ServeProcess, model: Path, name: str, version: str, reason: str
) -> None:
    wrong = settings(serve.url, name=name, version=version)
    dispatcher = make_dispatcher(wrong, model, threads=1)
    assert score_batch(dispatcher, PATCHES)[1] == "onnxruntime"
    dispatcher.close()
    fallback = dispatcher.fallbacks[0]
    assert serve.url in fallback.reason
    assert reason in fallback.reason

    only = make_dispatcher(
        settings(serve.url, name=name, version=version, policy="endpoint-only"), model, threads=1
    )
    with pytest.raises(ServiceError, match=reason):
        score_batch(only, PATCHES)
    only.close()


def test_without_a_version_the_server_chooses_and_the_answer_names_it(
    serve: ServeProcess, model: Path
) -> None:
    dispatcher = make_dispatcher(settings(serve.url, version=""), model, threads=1)
    assert score_batch(dispatcher, PATCHES)[1] == "triton"
    dispatcher.close()
    assert dispatcher.statistics[0].model_versions == ["1"]


def test_the_next_endpoint_is_tried_before_the_cpu(serve: ServeProcess, nobody: str, model: Path) -> None:
    dispatcher = make_dispatcher(settings(nobody, serve.url), model, threads=1)
    assert score_batch(dispatcher, PATCHES)[1] == "triton"
    dispatcher.close()
    assert {nobody in fallback.reason for fallback in dispatcher.fallbacks} == {True}
