"""Which engine scores on the CPU, and that all of them give the same scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from protosonic.errors import ModelError
from protosonic.images.profiles import Profile, load_profile
from protosonic.inference import cpu_backend, tuning
from protosonic.inference.cpu_backend import know_network, load_cpu_backend
from protosonic.inference.hits import HitBatch, ImageBatch, PatchBatch
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.inference.sparse_backend import SparseBackend
from protosonic.inference.sparse_engine.weights_file import WeightsFile, write_weights
from protosonic.inference.untrained import write_untrained_model
from support.hit_batches import on_image, random_batch
from support.image_hits import UNEVEN, ZERO, random_plane

TOLERANCE = 1e-6
NO_FULL_VIEW = load_profile("protodune-sp-2019")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "model.onnx"
    write_untrained_model(path)
    return path


@pytest.fixture(scope="module")
def plain(network: Path) -> OnnxRuntimeBackend:
    return OnnxRuntimeBackend(network, threads=1)


@pytest.mark.parametrize("profile", [ZERO, UNEVEN, NO_FULL_VIEW], ids=["zero", "uneven", "no full view"])
@pytest.mark.parametrize("background", ["own", "other"])
def test_the_published_network_runs_sparsely_with_equal_scores(
    network: Path, plain: OnnxRuntimeBackend, profile: Profile, background: str
) -> None:
    """Blank hits, hits without pixels, and images whose empty pixels are not those that the engine expects."""
    expected_empty = profile.zero_level if background == "own" else profile.zero_level + 0.25
    backend = load_cpu_backend(network, threads=1, background=expected_empty)
    assert (backend.engine, backend.name) == ("sparse", "onnxruntime")
    hits = random_batch(profile=profile)
    expected = plain.infer(hits.patches())
    np.testing.assert_allclose(backend.score(hits), expected, rtol=0, atol=TOLERANCE)
    assert np.ptp(expected, axis=0).max() > 100 * TOLERANCE
    backend.close()


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_scores_do_not_depend_on_how_hits_are_cut(network: Path, size: int) -> None:
    backend = load_cpu_backend(network, threads=1)
    hits = random_batch()
    parts: list[HitBatch] = [hits.cut(first, size) for first in range(0, len(hits), size)]
    cut = np.concatenate([backend.score(part) for part in parts])
    np.testing.assert_allclose(cut, backend.score(hits), rtol=0, atol=TOLERANCE)
    patches = backend.score(PatchBatch(hits.patches()))
    np.testing.assert_allclose(patches, backend.score(hits), rtol=0, atol=TOLERANCE)
    backend.close()


def test_no_hits_have_no_scores(network: Path) -> None:
    backend = load_cpu_backend(network, threads=1)
    assert backend.score(ImageBatch([])).shape == (0, 4)
    assert backend.infer(np.empty((0, 48, 48), np.float32)).shape == (0, 4)
    backend.close()


def test_a_score_that_is_not_finite_is_an_error_as_with_onnx_runtime(network: Path) -> None:
    plane = random_plane(1, (100, 100), 5)
    plane.image.value[:] = np.nan
    backend = load_cpu_backend(network, threads=1)
    with pytest.raises(ModelError, match="not finite"):
        backend.score(ImageBatch([on_image(plane)]))
    backend.close()


def test_a_batch_size_that_is_given_asks_for_onnx_runtime(network: Path) -> None:
    backend = load_cpu_backend(network, threads=3, batch_size=17)
    assert (backend.engine, backend.batch_size, backend.concurrency) == ("onnxruntime", 17, 3)
    backend.close()


def test_another_network_runs_in_onnx_runtime_as_was_measured_to_be_best(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "tuned_calls", lambda *_: tuning.Calls(1, 2, 33))
    backend = load_cpu_backend(model, threads=2)
    assert (backend.engine, backend.batch_size, backend.concurrency) == ("onnxruntime", 33, 1)
    backend.close()


def test_an_engine_that_deviates_is_not_used(
    network: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    right = SparseBackend.score
    monkeypatch.setattr(SparseBackend, "score", lambda self, hits: right(self, hits) + np.float32(2e-5))
    backend = load_cpu_backend(network, threads=1)
    assert backend.engine == "onnxruntime"
    assert "deviates by 2e-05" in caplog.text
    backend.close()


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "no.onnx"
    path.write_bytes(b"no")
    with pytest.raises(ModelError, match="cannot load"):
        load_cpu_backend(path, threads=1)


@pytest.fixture
def weights_file(network: Path, tmp_path: Path) -> WeightsFile:
    file = WeightsFile(tmp_path / "weights.npz", "a" * 64)
    write_weights(file.path, know_network(network), file.model_sha256)
    return file


def test_known_weights_give_the_same_scores_without_the_model(
    network: Path, weights_file: WeightsFile, tmp_path: Path
) -> None:
    hits = random_batch()
    of_model = load_cpu_backend(network, threads=1)
    of_file = load_cpu_backend(tmp_path / "no.onnx", threads=1, weights_file=weights_file)
    assert of_file.engine == "sparse"
    np.testing.assert_array_equal(of_file.score(hits), of_model.score(hits))
    of_model.close()
    of_file.close()


def test_scores_of_known_weights_are_compared_with_those_of_onnx_runtime(
    network: Path, weights_file: WeightsFile, caplog: pytest.LogCaptureFixture
) -> None:
    known = know_network(network)
    write_weights(
        weights_file.path, known._replace(golden_scores=known.golden_scores + np.float32(2e-5)), "a" * 64
    )
    backend = load_cpu_backend(network, threads=1, batch_size=None, weights_file=weights_file)
    assert backend.engine == "onnxruntime"
    assert "deviates by 2e-05" in caplog.text
    backend.close()


def test_that_a_network_is_another_one_is_known_too(
    model: Path, weights_file: WeightsFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_weights(weights_file.path, know_network(model), weights_file.model_sha256)
    monkeypatch.setattr(tuning, "tuned_calls", lambda *_: tuning.Calls(1, 2, 33))
    monkeypatch.delattr(cpu_backend, "know_network")
    backend = load_cpu_backend(model, threads=1, weights_file=weights_file)
    assert (backend.engine, backend.batch_size) == ("onnxruntime", 33)
    backend.close()


def _other_model(file: WeightsFile) -> WeightsFile:
    return file._replace(model_sha256="b" * 64)


def _flipped_bit(file: WeightsFile) -> WeightsFile:
    content = bytearray(file.path.read_bytes())
    content[len(content) // 2] ^= 1
    file.path.write_bytes(content)
    return file


def _cut_short(file: WeightsFile) -> WeightsFile:
    file.path.write_bytes(file.path.read_bytes()[:100_000])
    return file


def _missing(file: WeightsFile) -> WeightsFile:
    file.path.unlink()
    return file


def _no_archive(file: WeightsFile) -> WeightsFile:
    file.path.write_bytes(b"no")
    return file


def _other_shape(file: WeightsFile) -> WeightsFile:
    with np.load(file.path) as arrays:
        np.savez(file.path, **dict(arrays) | {"bias_2": np.zeros(33, np.float32)})
    return file


def _other_golden_batch(file: WeightsFile) -> WeightsFile:
    with np.load(file.path) as arrays:
        np.savez(file.path, **dict(arrays) | {"golden_scores": np.zeros((15, 4), np.float32)})
    return file


def _as_if_encrypted(file: WeightsFile) -> WeightsFile:
    content = bytearray(file.path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # of the first member, in the directory at the end
    file.path.write_bytes(content)
    return file


@pytest.mark.parametrize(
    "damage",
    [
        _other_model,
        _flipped_bit,
        _cut_short,
        _missing,
        _no_archive,
        _other_shape,
        _other_golden_batch,
        _as_if_encrypted,
    ],
)
def test_a_weights_file_that_cannot_be_trusted_is_left_and_the_model_read(
    network: Path,
    weights_file: WeightsFile,
    damage: Callable[[WeightsFile], WeightsFile],
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend = load_cpu_backend(network, threads=1, weights_file=damage(weights_file))
    assert backend.engine == "sparse"
    assert "the model is read instead" in caplog.text
    backend.close()
