"""Evaluation from files to figures: what it reads, what it refuses, and that its figures are those of the scores."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from protosonic.detectors import load_detector
from protosonic.errors import ConfigError, DataError
from protosonic.evaluation.record import read_evaluation
from protosonic.evaluation.roc import area_under_curve
from protosonic.events.formats import open_events
from protosonic.events.model import Event, EventId
from protosonic.events.native_writer import NativeWriter
from protosonic.events.reader import ReaderOptions
from protosonic.events.truth import HitTruth
from protosonic.images.profiles import load_profile
from protosonic.images.unit import prepare_event
from protosonic.inference.hits import HitsOnImage
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.simulation.generator import simulate_event
from protosonic.stages.evaluate import (
    EvaluationOptions,
    as_planes,
    as_profile,
    evaluate,
    evaluate_and_show,
)
from support.models import linear_weights, write_linear_model

PROFILE = "protodune-sp-2021"
TRACK, EM, NONE, MICHEL = range(4)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_linear_model(tmp_path_factory.mktemp("model") / "linear.onnx", linear_weights())


def simulated(path: Path, seed: int, events: int = 3, hits: int = 400) -> Path:
    detector = load_detector("protodune-sp")
    with NativeWriter(path, detector, with_truth=True) as writer:
        for entry in range(events):
            writer.write(simulate_event(detector, EventId(1, 0, entry + 1), entry, hits, seed))
    return path


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated(tmp_path_factory.mktemp("events") / "held-out.h5", seed=11)


def scored_by_hand(event: Event, model: Path) -> np.ndarray:
    """Scores of every hit, one image at a time, with ONNX Runtime."""
    profile = load_profile(PROFILE)
    backend = OnnxRuntimeBackend(model, threads=1)
    scores = np.full((len(event.hits), 4), np.nan, np.float32)
    for image in prepare_event(event, profile, (0, 1, 2)).images:
        hits = HitsOnImage(
            image.image, profile, *(image.hits[name] for name in ("wire", "drift_bin", "peak_time"))
        )
        scores[image.hits["hit"]] = backend.infer(hits.patches())
    return scores


def test_figures_of_files_are_those_of_the_scores_of_their_hits(held_out: Path, linear: Path) -> None:
    found = evaluate(EvaluationOptions((held_out,), str(linear), threads=2))
    with open_events(held_out, ReaderOptions()) as file:
        events = [event for event in file.read() if isinstance(event, Event)]
    scores = np.concatenate([scored_by_hand(event, linear) for event in events])
    label = np.concatenate([event.truth.label for event in events if event.truth is not None])
    plane = np.concatenate([event.hits.plane for event in events])
    assert found.sample.events == 3
    assert list(found.sample.hits_by_class.values()) == np.bincount(label, minlength=4).tolist()
    share = scores[:, TRACK] / (scores[:, TRACK] + scores[:, EM])
    task = found.scorers["network"].hits.track_vs_shower
    assert task is not None
    either = (label == TRACK) | (label == EM)
    expected = area_under_curve(share[either], label[either] == TRACK)
    assert task.overall.auc.value == pytest.approx(expected, abs=1e-5)
    for number, name in enumerate("UVW"):
        here = either & (plane == number)
        expected = area_under_curve(share[here], label[here] == TRACK)
        assert task.plane[name].auc.value == pytest.approx(expected, abs=1e-5)
    assert found.scorers["network"].truth_clusters.number > 5


def test_only_the_planes_that_are_asked_for_are_evaluated(held_out: Path, linear: Path) -> None:
    found = evaluate(EvaluationOptions((held_out,), str(linear), planes=(2,), resamples=0))
    task = found.scorers["network"].hits.track_vs_shower
    assert task is not None
    assert list(task.plane) == ["W"]
    assert task.overall.auc.value is not None
    assert task.overall.auc.uncertainty is None


def test_the_baseline_stands_beside_the_network_and_learns_something(
    held_out: Path, linear: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = simulated(tmp_path / "training.h5", seed=12, events=2, hits=2000)
    options = EvaluationOptions((held_out,), str(linear), baseline=(training,))
    evaluate_and_show(options, tmp_path / "out", None)
    found = read_evaluation(tmp_path / "out" / "evaluation.json")
    assert list(found.scorers) == ["network", "baseline"]
    ours, theirs = (found.scorers[name].hits.track_vs_shower for name in found.scorers)
    assert ours is not None
    assert theirs is not None
    assert (ours.overall.signal, ours.overall.rest) == (theirs.overall.signal, theirs.overall.rest)
    assert theirs.overall.auc.value > 0.8
    assert "AUC, network − baseline" in capsys.readouterr().out


def test_the_json_never_holds_what_json_has_not(held_out: Path, linear: Path, tmp_path: Path) -> None:
    evaluate_and_show(EvaluationOptions((held_out,), str(linear)), tmp_path / "out", None)
    text = (tmp_path / "out" / "evaluation.json").read_text()

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(text, parse_constant=refuse)


def test_hits_of_unknown_class_are_counted_and_enter_no_figure(
    held_out: Path, linear: Path, tmp_path: Path
) -> None:
    with open_events(held_out, ReaderOptions()) as file:
        (event, *_) = [event for event in file.read() if isinstance(event, Event)]
    assert event.truth is not None
    before = evaluate(EvaluationOptions((held_out,), str(linear), resamples=0)).sample
    copy = tmp_path / "copy.h5"
    copy.write_bytes(held_out.read_bytes())
    with h5py.File(copy, "r+") as file:
        label = file["truth/hit_label"][:]
        wanted = np.flatnonzero(label == TRACK)[:50]
        label[wanted] = HitTruth.UNKNOWN
        file["truth/hit_label"][:] = label
    after = evaluate(EvaluationOptions((copy,), str(linear), resamples=0)).sample
    assert (after.hits, after.hits_of_unknown_class) == (before.hits - 50, 50)
    assert after.hits_by_class["track"] == before.hits_by_class["track"] - 50
    assert after.digest != before.digest


def test_files_without_truth_are_refused(held_out: Path, linear: Path, tmp_path: Path) -> None:
    detector = load_detector("protodune-sp")
    with open_events(held_out, ReaderOptions()) as file, NativeWriter(tmp_path / "a.h5", detector) as writer:
        for event in file.read():
            assert isinstance(event, Event)
            writer.write(event)
    with pytest.raises(DataError) as caught:
        evaluate(EvaluationOptions((tmp_path / "a.h5",), str(linear)))
    assert caught.value.code == "no-truth"
    assert "a.h5" in str(caught.value)
    assert "3 events without" in str(caught.value)


def test_a_baseline_that_saw_the_evaluated_events_is_refused(
    held_out: Path, linear: Path, tmp_path: Path
) -> None:
    (tmp_path / "link.h5").symlink_to(held_out)
    with pytest.raises(ConfigError, match="must not be trained on what it is evaluated on"):
        evaluate(EvaluationOptions((held_out,), str(linear), baseline=(tmp_path / "link.h5",)))


def test_a_campaign_is_not_mixed_with_files(held_out: Path, linear: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a campaign is evaluated alone"):
        evaluate(EvaluationOptions((held_out, tmp_path), str(linear)))
    with pytest.raises(ConfigError, match="no finished campaign is here"):
        evaluate(EvaluationOptions((tmp_path,), str(linear)))


def test_something_else_is_not_compared_with(held_out: Path, linear: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    options = EvaluationOptions((held_out,), str(linear))
    with pytest.raises(DataError) as caught:
        evaluate_and_show(options, tmp_path / "out", other)
    assert caught.value.code == "unreadable"
    other.write_text('{"format": "other"}')
    with pytest.raises(DataError) as caught:
        evaluate_and_show(options, tmp_path / "out", other)
    assert caught.value.code == "wrong-format"
    assert not (tmp_path / "out").exists()


def test_planes_and_profiles_of_the_command_line_are_checked() -> None:
    assert as_planes("2,0") == (0, 2)
    assert as_profile(PROFILE) == PROFILE
    for text in ("", "3", "0;1", "0,1,"):
        with pytest.raises(ConfigError, match="unknown planes"):
            as_planes(text)
    with pytest.raises(ConfigError, match="unknown profile"):
        as_profile("protodune")
