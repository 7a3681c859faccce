"""The bundled network: it is the one that its card describes."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import numpy as np
import onnx

from protosonic.inference.bundled import bundled_model
from protosonic.inference.cpu_backend import load_cpu_backend
from protosonic.inference.golden import golden_patches
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.inference.untrained import is_untrained
from protosonic.publish import sha256_of

CARD = Path(__file__).parents[3] / "docs" / "model_card.md"
MOST_BYTES = 15_000_000


def test_it_is_small_and_the_one_of_the_card() -> None:
    assert bundled_model().stat().st_size < MOST_BYTES
    assert sha256_of(bundled_model()) in CARD.read_text(encoding="utf-8")


def test_it_is_trained_and_says_how() -> None:
    assert not is_untrained(bundled_model())
    (entry,) = [
        entry for entry in onnx.load(bundled_model()).metadata_props if entry.key == "protosonic.training"
    ]
    stored = json.loads((resources.files("protosonic.models") / "training.json").read_text(encoding="utf-8"))
    assert json.loads(entry.value) == stored["facts"]
    figures = stored["facts"]["figures"]
    for figure in ("auc_shower_U", "auc_shower_V", "auc_shower_W", "auc_michel"):
        assert abs(figures["eight bits"][figure] - figures["float32"][figure]) < 0.001


def test_the_sparse_engine_computes_it() -> None:
    patches = golden_patches()
    engine = load_cpu_backend(bundled_model(), threads=1)
    assert engine.engine == "sparse"
    exact = OnnxRuntimeBackend(bundled_model(), threads=1).infer(patches)
    np.testing.assert_allclose(engine.infer(patches), exact, atol=1e-5)


def test_it_calls_nothing_nothing() -> None:
    """A patch without charge is none: the names of the columns are right."""
    scores = OnnxRuntimeBackend(bundled_model(), threads=1).infer(np.zeros((1, 48, 48), np.float32))[0]
    assert scores[2] > 0.9
    assert scores[3] < 0.1
