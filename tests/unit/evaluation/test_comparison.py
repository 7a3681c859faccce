"""Differences of two scorers or two evaluations."""

from __future__ import annotations

import numpy as np
import pytest

from protosonic.evaluation.comparison import compare_scorers
from protosonic.evaluation.figures import score_figures
from protosonic.evaluation.resampling import Resampler

from .builders import make_sample, scores_of_track

rng = np.random.default_rng(2)
EVENT = np.repeat(np.arange(12), 50)
LABEL = rng.integers(0, 2, len(EVENT))
SHIFT = rng.normal(0, 0.5, (12, 2))[EVENT, LABEL]
BASE = SHIFT + 1.5 * (LABEL == 0) + rng.normal(size=len(EVENT))
SAMPLE = make_sample(LABEL.tolist(), event=EVENT)


def scorer(values: np.ndarray):
    scores = scores_of_track((1 / (1 + np.exp(-values))).tolist())
    return score_figures("test", SAMPLE, scores, Resampler(12, 100, 3))


def overall(differences):
    return next(d for d in differences if (d.question, d.part) == ("track_vs_shower", "all"))


def test_what_two_scorers_share_cancels_on_the_same_draws() -> None:
    one, other = scorer(BASE), scorer(BASE + 0.1 * rng.normal(size=len(BASE)))
    paired = overall(compare_scorers(one, other, same_draws=True))
    apart = overall(compare_scorers(one, other, same_draws=False))
    assert paired.difference == apart.difference == paired.value - paired.other
    assert (paired.is_paired, apart.is_paired) == (True, False)
    assert paired.uncertainty is not None
    assert apart.uncertainty is not None
    assert paired.uncertainty < 0.2 * apart.uncertainty
    auc = one.hits.track_vs_shower.overall.auc.uncertainty
    assert apart.uncertainty == pytest.approx(auc * np.sqrt(2), rel=0.1)


def test_a_scorer_does_not_differ_from_itself() -> None:
    for difference in compare_scorers(scorer(BASE), scorer(BASE), same_draws=True):
        assert (difference.difference, difference.uncertainty) == (0, 0)


def test_figures_that_one_of_them_lacks_are_not_compared() -> None:
    differences = list(compare_scorers(scorer(BASE), scorer(BASE), same_draws=True))
    assert {d.question for d in differences} == {"track_vs_shower"}  # there is no Michel electron
    assert {d.part for d in differences} == {"all", "plane W", "charge 20-40"}
