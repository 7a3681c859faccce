"""The network and the kernels that are tested."""

from __future__ import annotations

from pathlib import Path

import pytest

from protosonic.inference.sparse_engine.build import build_kernel
from protosonic.inference.sparse_engine.compiled_kernel import CompiledKernel
from protosonic.inference.sparse_engine.engine import Kernel
from protosonic.inference.sparse_engine.numpy_kernel import NumpyKernel
from protosonic.inference.sparse_engine.recognise import recognise
from protosonic.inference.sparse_engine.weights import CnnWeights
from protosonic.inference.untrained import untrained_model, write_untrained_model

from .graphs import PatchByPatch

LEVELS = ("plain", "avx2", "avx512")


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> CnnWeights:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    write_untrained_model(path)
    weights = recognise(path)
    assert weights is not None
    return weights


@pytest.fixture(scope="session")
def reference() -> PatchByPatch:
    return PatchByPatch(untrained_model())


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kernel]:
    """NumPy's kernel, and the compiled one at every level of this processor where there is a compiler."""
    library: Path = tmp_path_factory.mktemp("kernel") / "_kernel.so"
    kernels: dict[str, Kernel] = {"numpy": NumpyKernel()}
    if build_kernel(library) is None:
        best = CompiledKernel(library=library).level
        kernels |= {name: CompiledKernel(level, library) for level, name in enumerate(LEVELS[: best + 1])}
    return kernels
