"""Figures of merit of samples that can be counted by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from protosonic.evaluation.figures import predicted_label, score_figures
from protosonic.evaluation.record import Scorer
from protosonic.evaluation.resampling import MOST_GROUPS, Resampler
from protosonic.evaluation.sample import Sample, angle_to_drift, labelled_hits
from protosonic.events.truth import HitTruth, Particles

from .builders import make_sample, scores_of_track

TRACK, EM, NONE, MICHEL = range(4)


def figures_of(sample: Sample, scores: np.ndarray, resamples: int = 50) -> Scorer:
    return score_figures("test", sample, scores, Resampler(sample.n_events, resamples, 1))


def test_tracks_and_showers_are_told_apart_by_the_share_of_the_two_scores() -> None:
    scores = np.array(
        [[0.2, 0.1, 0.7, 0.9], [0.6, 0.4, 0.0, 0.0], [0.1, 0.1, 0.8, 0.0], [0.9, 0.0, 0.1, 0.0]], np.float32
    )  # shares 0.667, 0.6, 0.5, 1
    task = figures_of(make_sample([TRACK, EM, TRACK, EM]), scores).hits.track_vs_shower
    assert task is not None
    assert (task.overall.signal, task.overall.rest) == (2, 2)
    assert task.overall.auc.value == 0.25  # only 0.667 > 0.6
    by_cut = {cut.cut: cut for cut in task.overall.cuts}
    assert (by_cut[0.5].efficiency.value, by_cut[0.5].false_positive_rate.value) == (1.0, 1.0)
    assert by_cut[0.7].efficiency.value == 0.0
    assert by_cut[0.7].purity.value == 0.0
    assert by_cut[0.9].false_positive_rate.value == 0.5


def test_hits_of_the_other_classes_do_not_enter_track_against_shower() -> None:
    scores = scores_of_track([0.9, 0.1, 0.99, 0.01], michel=[0.1, 0.2, 0.3, 0.9])
    hits = figures_of(make_sample([TRACK, EM, NONE, MICHEL]), scores).hits
    assert hits.track_vs_shower is not None
    assert hits.michel_vs_rest is not None
    assert (hits.track_vs_shower.overall.signal, hits.track_vs_shower.overall.rest) == (1, 1)
    assert hits.track_vs_shower.overall.auc.value == 1.0
    assert (hits.michel_vs_rest.overall.signal, hits.michel_vs_rest.overall.rest) == (1, 3)


def test_a_hit_with_neither_score_stands_in_the_middle() -> None:
    scores = np.array([[0, 0, 1, 0], [0.4, 0.6, 0, 0]], np.float32)
    task = figures_of(make_sample([TRACK, EM]), scores).hits.track_vs_shower
    assert task is not None
    assert task.overall.auc.value == 1.0


def test_figures_by_plane_charge_and_angle_are_those_of_their_hits() -> None:
    label = [TRACK, EM, TRACK, EM, TRACK, EM]
    sample = make_sample(
        label,
        plane=[0, 0, 1, 1, 2, 2],
        charge=[5, 5, 5, 15, 500, 500],
        angle=[10, 10, 90, 90, np.nan, np.nan],
    )
    task = figures_of(sample, scores_of_track([0.9, 0.1, 0.1, 0.9, 0.5, 0.5])).hits.track_vs_shower
    assert task is not None
    assert {name: part.auc.value for name, part in task.plane.items()} == {"U": 1.0, "V": 0.0, "W": 0.5}
    assert {name: (part.signal, part.rest) for name, part in task.charge.items()} == {
        "0-10": (2, 1),
        "10-20": (0, 1),
        "160 and more": (1, 1),
    }
    assert {name: part.auc.value for name, part in task.angle.items()} == {"0-15": 1.0, "75-90": 0.0}


def test_a_figure_that_cannot_be_computed_is_null_with_its_reason() -> None:
    found = figures_of(make_sample([TRACK] * 3), scores_of_track([0.2, 0.95, 0.6]))
    content = json.loads(found.model_dump_json())
    overall = content["hits"]["track_vs_shower"]["overall"]
    assert overall["auc"] == {"value": None, "uncertainty": None, "reason": "there is no shower"}
    assert (overall["resampled_auc"], overall["curve"]) == ([], None)
    cut = overall["cuts"][-1]
    assert cut["false_positive_rate"]["reason"] == "there is no shower"
    assert cut["purity"] == {
        "value": 1.0,
        "uncertainty": None,
        "reason": "no uncertainty: there is one event",
    }
    michel = content["hits"]["michel_vs_rest"]["overall"]
    assert michel["auc"]["reason"] == "there is no michel"
    assert michel["cuts"][0]["purity"]["reason"] == "nothing passes the cut"
    assert content["truth_clusters"]["reason"] == "the truth does not say which particle made which hit"
    assert "NaN" not in found.model_dump_json()


def test_a_sample_without_tracks_and_showers_has_no_figures_of_them() -> None:
    task = figures_of(make_sample([NONE, MICHEL]), scores_of_track([0.2, 0.9])).hits.track_vs_shower
    assert task is not None
    assert task.overall.auc.reason == "there is no track"
    assert task.reliability.expected_calibration_error.reason == "there is neither track nor shower"


def test_the_confusion_has_the_true_classes_in_rows() -> None:
    scores = np.array(
        [[0.8, 0.1, 0.1, 0.2], [0.8, 0.1, 0.1, 0.6], [0.1, 0.8, 0.1, 0.5], [0.1, 0.1, 0.8, 0.0]], np.float32
    )
    assert predicted_label(scores).tolist() == [TRACK, MICHEL, EM, NONE]
    table = figures_of(make_sample([TRACK, TRACK, EM, EM]), scores).hits.confusion
    assert table is not None
    assert table.classes == ("track", "em", "none", "michel")
    assert table.counts == ((1, 0, 0, 1), (0, 1, 1, 0), (0, 0, 0, 0), (0, 0, 0, 0))


def test_reliability_compares_mean_scores_with_shares_of_signal() -> None:
    scores = scores_of_track([0.52, 0.53, 0.54, 0.51, 1.0, 0.0])
    label = [TRACK, TRACK, TRACK, EM, TRACK, EM]
    task = figures_of(make_sample(label), scores).hits.track_vs_shower
    assert task is not None
    found = task.reliability
    assert found.number[10] == 4
    assert found.score[10] == pytest.approx(0.525, abs=1e-6)
    assert found.signal_share[10] == 0.75
    assert (found.score[0], found.signal_share[0], found.score[19]) == (0.0, 0.0, 1.0)
    assert found.signal_share[5] is None
    assert found.expected_calibration_error.value == pytest.approx(4 * (0.75 - 0.525) / 6)


def test_scores_that_are_probabilities_have_almost_no_calibration_error() -> None:
    rng = np.random.default_rng(1)
    score = rng.random(200_000)
    label = np.where(rng.random(200_000) < score, TRACK, EM)
    sample = make_sample(label.tolist())
    task = figures_of(sample, scores_of_track(score.tolist())).hits.track_vs_shower
    assert task is not None
    assert task.reliability.expected_calibration_error.value < 0.005
    task = figures_of(sample, scores_of_track((score**2).tolist())).hits.track_vs_shower
    assert task is not None
    assert task.reliability.expected_calibration_error.value == pytest.approx(1 / 6, abs=0.01)


def test_uncertainties_are_the_spread_between_samples_of_other_events() -> None:
    """Hits of an event are alike, so that their number says nothing; only that of the events does."""

    def draw(seed: int) -> tuple[Sample, np.ndarray]:
        rng = np.random.default_rng(seed)
        event = np.repeat(np.arange(30), 100)
        label = rng.integers(0, 2, len(event))
        shift = rng.normal(0, 1, (30, 2))[event, label]
        score = 1 / (1 + np.exp(-(shift + (label == TRACK) + 0.1 * rng.normal(size=len(event)))))
        return make_sample(label.tolist(), event=event), scores_of_track(score.tolist())

    found = [figures_of(*draw(seed), resamples=200).hits.track_vs_shower for seed in range(30)]
    values = [task.overall.auc.value for task in found if task is not None]
    stated = [task.overall.auc.uncertainty for task in found if task is not None]
    assert np.mean(stated) == pytest.approx(np.std(values, ddof=1), rel=0.4)
    assert 0.05 < np.mean(stated) < 0.12


def test_draws_depend_on_seed_and_events_only_and_many_events_are_drawn_in_groups() -> None:
    one, same, other = Resampler(10, 20, 7), Resampler(10, 20, 7), Resampler(10, 20, 8)
    assert np.array_equal(one.weights, same.weights)
    assert not np.array_equal(one.weights, other.weights)
    assert (one.weights.sum(axis=1) == 10).all()
    many = Resampler(3 * MOST_GROUPS, 5, 1)
    assert many.weights.shape == (5, MOST_GROUPS)
    counts = many.counts(np.arange(3 * MOST_GROUPS), np.zeros(3 * MOST_GROUPS, int), 1)
    assert (counts == 3).all()


def test_hits_of_unknown_class_are_left_out_and_particles_give_the_angle() -> None:
    columns = {name: np.zeros(2, np.float32) for name in ("pdg", "parent", "label", "kinetic_energy", "tick")}
    places = {f"start_{axis}": np.zeros(2, np.float32) for axis in "xyz"}
    along = np.array([[-1, 0, 0], [0.5, 0, np.sqrt(0.75)]], np.float32)
    directions = {f"direction_{axis}": along[:, k] for k, axis in enumerate("xyz")}
    particles = Particles(**columns, **places, **directions)
    assert angle_to_drift(particles).tolist() == pytest.approx([0, 60], abs=1e-3)
    hits = {
        "tpc": np.arange(5),
        "plane": np.array([0, 1, 2, 0, 1]),
        "integral": np.arange(5) * 10.0,
        "in_fiducial": np.array([True, False, True, True, True]),
    }
    truth = HitTruth(
        np.array([0, -1, 1, 2, 3], np.int8), np.array([1, 0, 0, -1, 7], np.int32), np.ones(5, np.float32)
    )
    sample, known = labelled_hits(4, hits, truth, particles)
    assert known.tolist() == [True, False, True, True, True]
    assert sample.label.tolist() == [0, 1, 2, 3]
    assert sample.tpc.tolist() == [0, 2, 3, 4]
    assert sample.event.tolist() == [4] * 4
    assert sample.angle[:2].tolist() == pytest.approx([60, 0], abs=1e-3)
    assert np.isnan(sample.angle[2:]).all()  # no particle, and one that is not in the list
