"""``precision: fast`` and its gate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from protosonic.campaign.records import ModelRecord, read_record
from protosonic.config.model import Inference, Input, Model, Settings
from protosonic.errors import ModelError
from protosonic.inference.cpu_backend import load_cpu_backend
from protosonic.inference.hits import PatchBatch
from protosonic.inference.int8_backend import Int8Backend
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.inference.untrained import write_untrained_model
from protosonic.stages.model import prepare_model
from protosonic.stages.precision import MOST_CHANGE, check_fast_precision
from support.hit_batches import random_batch
from support.models import linear_weights, write_linear_model

PROFILE = "protodune-sp-2021"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_linear_model(tmp_path_factory.mktemp("model") / "linear.onnx", linear_weights())


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores that hang on small weights beside a large one: 8 bits lose them."""
    weights = linear_weights()
    weights[:, 0, 0] = 100.0
    return write_linear_model(tmp_path_factory.mktemp("model") / "fragile.onnx", weights)


def test_scores_are_close_and_those_for_comparison_exact(linear: Path) -> None:
    backend = load_cpu_backend(linear, threads=1, precision="fast", batch_size=64)
    assert isinstance(backend, Int8Backend)
    assert (backend.name, backend.engine, backend.batch_size) == ("onnxruntime", "onnxruntime-int8", 64)
    hits = random_batch()
    exact = OnnxRuntimeBackend(linear, threads=1).score(hits)
    deviation = np.abs(backend.score(hits) - exact).max()
    assert 0 < deviation < 1e-2
    np.testing.assert_array_equal(backend.infer(hits.patches()), exact)
    np.testing.assert_array_equal(backend.score(hits), backend.score(PatchBatch(hits.patches())))
    backend.close()


def test_the_published_network_stays_exact_because_that_is_faster(tmp_path: Path) -> None:
    write_untrained_model(path := tmp_path / "model.onnx")
    found = check_fast_precision(path, PROFILE)
    assert found.engine == "sparse"
    assert found.deviation <= 1e-6
    assert set(found.figures) == {"exact", "fast"}


def test_a_model_whose_figures_stay_passes_the_gate_and_the_record_says_so(
    linear: Path, tmp_path: Path
) -> None:
    settings = Settings(
        inputs=(Input(path="none.h5"),),
        model=Model(path=str(linear)),
        inference=Inference(policy="cpu-only", precision="fast"),
    )
    prepare_model(settings, tmp_path / "model.onnx", tmp_path / "model.json")
    fast = read_record(tmp_path / "model.json", ModelRecord).fast
    assert fast is not None
    assert fast.engine == "onnxruntime-int8"
    assert 0 < fast.deviation < 1e-2
    for figure, value in fast.figures["exact"].items():
        assert 0 < value < 1
        assert abs(fast.figures["fast"][figure] - value) <= MOST_CHANGE


def test_a_model_whose_figures_move_is_refused(fragile: Path) -> None:
    with pytest.raises(ModelError, match="precision fast changes what the model is worth") as caught:
        check_fast_precision(fragile, PROFILE)
    assert "AUC of" in str(caught.value)
