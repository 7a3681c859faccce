"""How ONNX Runtime is called best is measured once and kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from protosonic.inference import tuning
from protosonic.inference.golden import golden_patches
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.inference.tuning import BATCH_SIZES, Calls, Way, measure_calls, tuned_calls, ways

BEST = Calls(1, 2, 64)
RATES = {Calls(2, 2, 128): 100.0, Calls(1, 2, 128): 200.0, BEST: 300.0, Calls(1, 2, 256): 250.0}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "protosonic" / "onnxruntime-calls"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of threads that were measured; one call on two threads with 64 patches is best."""
    measured: list[int] = []

    def measure(model: Path, threads: int) -> dict[Calls, float]:
        measured.append(threads)
        return RATES if threads == 2 else {Calls(threads, threads, 32): 1.0}

    monkeypatch.setattr(tuning, "measure_calls", measure)
    return measured


@pytest.mark.parametrize(
    ("threads", "expected"),
    [
        (1, [(1, 1)]),
        (2, [(2, 2), (1, 2), (1, 1)]),
        (3, [(3, 3), (1, 3), (1, 1)]),
        (8, [(8, 8), (4, 8), (1, 8), (4, 4)]),
    ],
)
def test_threads_can_be_used_in_a_few_ways(threads: int, expected: list[tuple[int, int]]) -> None:
    assert ways(threads) == expected


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_every_way_and_every_size_is_really_measured(model: Path, threads: int) -> None:
    rates = measure_calls(model, threads)
    assert min(rates.values()) > 0
    assert {Way(calls.calls, calls.threads) for calls in rates} == set(ways(threads))
    of_one_size = {calls: rate for calls, rate in rates.items() if calls.batch_size == 128}
    assert len(of_one_size) == len(ways(threads))
    sizes = [calls[:2] for calls in rates if calls.batch_size != 128]
    assert len(sizes) == len(BATCH_SIZES) - 1
    assert len(set(sizes)) == 1


@pytest.mark.parametrize("way", ways(4), ids=str)
def test_scores_do_not_depend_on_how_threads_are_used(model: Path, way: Way) -> None:
    one = OnnxRuntimeBackend(model, 1)
    backend = OnnxRuntimeBackend(model, way.threads, 5, calls=way.calls)
    assert backend.concurrency == way.calls
    np.testing.assert_allclose(
        backend.infer(golden_patches()), one.infer(golden_patches()), rtol=0, atol=1e-6
    )
    one.close()
    backend.close()


def test_what_was_measured_is_kept(
    cache: Path, model: Path, measured: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        assert [tuned_calls(model, 2) for _ in range(3)] == [BEST] * 3
    assert measured == [2]
    [entry] = cache.iterdir()
    assert len(json.loads(entry.read_text())["measured"]) == len(RATES)
    assert "best of 4 ways are calls: 1, threads: 2, patches a call: 64, with 300 hits/s" in caplog.text


def test_another_number_of_threads_or_another_model_is_measured_anew(
    cache: Path, model: Path, measured: list[int], tmp_path: Path
) -> None:
    tuned_calls(model, 2)
    tuned_calls(model, 1)
    other = tmp_path / "other.onnx"
    other.write_bytes(model.read_bytes() + b"\x00")
    tuned_calls(other, 2)
    assert measured == [2, 1, 2]
    assert len(list(cache.iterdir())) == 3


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        '{"batch_size": 64}',  # what was kept when only that was measured
        '{"calls": 1, "threads": 2, "batch_size": 1000000}',
        '{"calls": 1, "threads": 2, "batch_size": "64"}',
        '{"calls": true, "threads": 2, "batch_size": 64}',
        '{"calls": 3, "threads": 3, "batch_size": 64}',
        "[64]",
    ],
)
def test_a_damaged_entry_is_replaced(cache: Path, model: Path, measured: list[int], content: str) -> None:
    tuned_calls(model, 2)
    [entry] = cache.iterdir()
    entry.write_text(content)
    assert tuned_calls(model, 2) == BEST
    assert len(measured) == 2
    assert json.loads(entry.read_text())["batch_size"] == 64


def test_entries_of_batch_sizes_alone_are_not_read(cache: Path, model: Path, measured: list[int]) -> None:
    tuned_calls(model, 2)
    [entry] = cache.iterdir()
    older = cache.with_name("batch-size") / entry.name
    older.parent.mkdir()
    older.write_text('{"batch_size": 32}')
    entry.unlink()
    assert tuned_calls(model, 2) == BEST
    assert len(measured) == 2
    assert older.read_text() == '{"batch_size": 32}'


def test_a_cache_that_cannot_be_written_only_costs_time(
    cache: Path, model: Path, measured: list[int]
) -> None:
    cache.parents[1].mkdir(parents=True)
    cache.parent.write_text("a file where the folder should be")
    assert [tuned_calls(model, 2) for _ in range(2)] == [BEST, BEST]
    assert len(measured) == 2
