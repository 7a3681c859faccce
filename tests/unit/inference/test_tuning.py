"""The batch size of ONNX Runtime is measured once and kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from protosonic.inference import tuning
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.inference.tuning import CANDIDATES, measure_rates, tuned_batch_size

RATES = {32: 100.0, 64: 300.0, 128: 200.0, 256: 250.0}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "protosonic" / "batch-size"


@pytest.fixture
def backend(model: Path) -> Iterator[OnnxRuntimeBackend]:
    backend = OnnxRuntimeBackend(model, threads=2)
    yield backend
    backend.close()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[OnnxRuntimeBackend]:
    """The backends that were measured; 64 patches a call are best."""
    measured: list[OnnxRuntimeBackend] = []

    def measure(backend: OnnxRuntimeBackend) -> dict[int, float]:
        measured.append(backend)
        return RATES

    monkeypatch.setattr(tuning, "measure_rates", measure)
    return measured


def test_every_size_is_really_measured(backend: OnnxRuntimeBackend) -> None:
    rates = measure_rates(backend)
    assert tuple(rates) == CANDIDATES
    assert min(rates.values()) > 0


def test_what_was_measured_is_kept(
    cache: Path, backend: OnnxRuntimeBackend, model: Path, measured: list[OnnxRuntimeBackend]
) -> None:
    assert [tuned_batch_size(backend, model) for _ in range(3)] == [64, 64, 64]
    assert len(measured) == 1
    assert len(list(cache.iterdir())) == 1


def test_another_number_of_threads_or_another_model_is_measured_anew(
    cache: Path, backend: OnnxRuntimeBackend, model: Path, measured: list[OnnxRuntimeBackend], tmp_path: Path
) -> None:
    tuned_batch_size(backend, model)
    backend.concurrency = 1
    tuned_batch_size(backend, model)
    other = tmp_path / "other.onnx"
    other.write_bytes(model.read_bytes() + b"\x00")
    tuned_batch_size(backend, other)
    assert len(measured) == len(list(cache.iterdir())) == 3


@pytest.mark.parametrize("content", ["", "{}", '{"batch_size": 1000000}', '{"batch_size": "64"}', "[64]"])
def test_a_damaged_entry_is_replaced(
    cache: Path, backend: OnnxRuntimeBackend, model: Path, measured: list[OnnxRuntimeBackend], content: str
) -> None:
    tuned_batch_size(backend, model)
    [entry] = cache.iterdir()
    entry.write_text(content)
    assert tuned_batch_size(backend, model) == 64
    assert len(measured) == 2
    assert '"batch_size": 64' in entry.read_text()


def test_a_cache_that_cannot_be_written_only_costs_time(
    cache: Path, backend: OnnxRuntimeBackend, model: Path, measured: list[OnnxRuntimeBackend]
) -> None:
    cache.parents[1].mkdir(parents=True)
    cache.parent.write_text("a file where the folder should be")
    assert [tuned_batch_size(backend, model) for _ in range(2)] == [64, 64]
    assert len(measured) == 2
