"""The compiled kernel is used where it was built; elsewhere NumPy computes, and the log says so."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from protosonic.inference.sparse_engine import compiled_kernel, engine
from protosonic.inference.sparse_engine.build import build_kernel


@pytest.fixture(autouse=True)
def fresh_choice() -> Iterator[None]:
    engine.default_kernel.cache_clear()
    yield
    engine.default_kernel.cache_clear()


def test_without_a_library_numpy_computes_and_the_log_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Missing(compiled_kernel.CompiledKernel):
        def __init__(self) -> None:
            super().__init__(library=tmp_path / "none.so")

    monkeypatch.setattr(engine, "CompiledKernel", Missing)
    with caplog.at_level(logging.WARNING):
        assert [engine.default_kernel().name for _ in range(3)] == ["numpy"] * 3
    (record,) = caplog.records
    assert "none.so" in record.message
    assert "sparse_engine.build" in record.message


def test_without_a_compiler_the_reason_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build_kernel(tmp_path / "kernel.so") == "there is no C compiler"
    monkeypatch.setenv("CC", "no-such-compiler -m64")
    assert "no-such-compiler" in str(build_kernel(tmp_path / "kernel.so"))
    assert list(tmp_path.iterdir()) == []


def test_a_compiler_that_fails_leaves_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "failing"
    compiler.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    assert "broken" in str(build_kernel(tmp_path / "kernel.so"))
    assert list(tmp_path.iterdir()) == [compiler]
