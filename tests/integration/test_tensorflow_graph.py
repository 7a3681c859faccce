"""A TensorFlow graph of the published network becomes a model that protosonic takes, by the documented command."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from protosonic.inference.cpu_backend import load_cpu_backend
from protosonic.inference.golden import golden_patches
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.stages.model_check import inspect_model

ROOT = Path(__file__).parents[2]
TOLERANCE = 1e-5


def documented_command() -> list[str]:
    """The conversion that docs/models.md gives, without the shell's line breaks."""
    page = (ROOT / "docs" / "models.md").read_text().replace("\\\n", " ")
    (line,) = re.findall(r"^python -m tf2onnx\.convert --graphdef .*$", page, re.MULTILINE)
    return shlex.split(line)


@pytest.mark.tensorflow
@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None or importlib.util.find_spec("tf2onnx") is None,
    reason="the extra convert is not installed",
)
def test_the_documented_conversion_keeps_the_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    patches = golden_patches()
    np.save(tmp_path / "patches.npy", patches)
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    builder = ROOT / "tests" / "support" / "tensorflow_graph.py"
    subprocess.run([sys.executable, builder, tmp_path], check=True, env=quiet)
    expected = np.load(tmp_path / "scores.npy")
    assert np.ptp(expected, axis=0).min() > 0.01

    python, *arguments = documented_command()
    assert python == "python"
    subprocess.run([sys.executable, *arguments], check=True, env=quiet, cwd=tmp_path)
    model = tmp_path / "cnn.onnx"
    report = inspect_model(str(model))
    assert report.engine == "sparse"
    assert report.parameters == 11_900_420
    assert report.tensors["michel_netout"].startswith("michel_netout/Sigmoid")
    for backend in (OnnxRuntimeBackend(model, threads=1), load_cpu_backend(model, threads=1)):
        np.testing.assert_allclose(backend.infer(patches), expected, rtol=0, atol=TOLERANCE)
        backend.close()
