"""The figures of merit of scores of known hits or clusters."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from protosonic.detectors.geometry import PLANE_NAMES
from protosonic.evaluation.clusters import geometric_mean, truth_clusters
from protosonic.evaluation.record import (
    Confusion,
    Curve,
    Cut,
    Figure,
    Level,
    Quantity,
    Reliability,
    Scorer,
    Task,
)
from protosonic.evaluation.roc import area_under_curve, areas_of_counts, rank_bins, roc_curve
from protosonic.events.truth import HitTruth

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from protosonic.evaluation.resampling import Resampler
    from protosonic.evaluation.sample import Sample

__all__ = ["ANGLES", "CHARGES", "CLUSTER_CHARGES", "MICHEL_CUT", "predicted_label", "score_figures"]

CHARGES = (0.0, 10.0, 20.0, 40.0, 80.0, 160.0)
"""Edges of the bins of a hit's charge, ``recob::Wire`` units × ticks; the last bin is open."""
CLUSTER_CHARGES = (0.0, 300.0, 1000.0, 3000.0, 10000.0)
ANGLES = (0.0, 15.0, 30.0, 45.0, 60.0, 75.0, 90.0)
"""Edges of the bins of the angle to the drift direction, degrees."""
CUTS = (0.1, 0.3, 0.5, 0.7, 0.9)
RELIABILITY_BINS = 20
MICHEL_CUT = 0.5
_TRACK, _EM, _NONE, _MICHEL = range(len(HitTruth.LABELS))


class _Question(NamedTuple):
    """Scores and truth of those that a question is about; `name` of what is signal and what is not."""

    part: Sample
    score: NDArray[np.float64]
    is_signal: NDArray[np.bool_]
    name: tuple[str, str]


def predicted_label(scores: NDArray[np.float32]) -> NDArray[np.int8]:
    """Classify by scores, float32 [n, 4]: michel above :data:`MICHEL_CUT`, else the largest of track, em and none."""
    best = scores[:, :_MICHEL].argmax(axis=1)
    return np.where(scores[:, _MICHEL] > MICHEL_CUT, _MICHEL, best).astype(np.int8)


def score_figures(
    description: str, sample: Sample, scores: NDArray[np.float32], resampler: Resampler
) -> Scorer:
    """Compute all figures of the scores of a sample.

    Parameters
    ----------
    description
        What gave the scores.
    sample
        Hits of known class.
    scores
        float32 [hits, 4]: track, em, none, michel.
    resampler
        Draws of the sample's events.
    """
    hits = _level(sample, scores, resampler, CHARGES)
    if (sample.particle < 0).all():
        nothing = Level(number=0, reason="the truth does not say which particle made which hit")
        return Scorer(description=description, hits=hits, truth_clusters=nothing)
    clusters, member, left_out = truth_clusters(sample)
    in_cluster = member >= 0
    cluster_scores = geometric_mean(
        scores[in_cluster],
        member[in_cluster],
        sample.in_fiducial[in_cluster].astype(np.float64),
        len(clusters),
    )
    level = _level(clusters, cluster_scores, resampler, CLUSTER_CHARGES)
    return Scorer(
        description=description,
        hits=hits,
        truth_clusters=level.model_copy(update={"left_out": left_out}),
    )


def _level(
    sample: Sample, scores: NDArray[np.float32], resampler: Resampler, charges: Sequence[float]
) -> Level:
    if not len(sample):
        return Level(number=0, reason="there are none")
    is_either = (sample.label == _TRACK) | (sample.label == _EM)
    either = scores[is_either].astype(np.float64)
    both = either[:, _TRACK] + either[:, _EM]
    share = np.full(len(either), 0.5)
    np.divide(either[:, _TRACK], both, out=share, where=both > 0)
    track = _Question(sample.select(is_either), share, sample.label[is_either] == _TRACK, ("track", "shower"))
    michel = _Question(
        sample, scores[:, _MICHEL].astype(np.float64), sample.label == _MICHEL, ("michel", "other")
    )
    counts = np.bincount(sample.label.astype(np.int64) * 4 + predicted_label(scores), minlength=16)
    return Level(
        number=len(sample),
        track_vs_shower=_task(track, resampler, charges),
        michel_vs_rest=_task(michel, resampler, charges),
        confusion=Confusion(classes=HitTruth.LABELS, counts=tuple(map(tuple, counts.reshape(4, 4).tolist()))),
    )


def _task(question: _Question, resampler: Resampler, charges: Sequence[float]) -> Task:
    part = question.part
    # One ranking for all parts of the sample; it only serves the uncertainties.
    bins = rank_bins(question.score)

    def figures(masks: Mapping[str, NDArray[np.bool_]], *, with_curve: bool = False) -> dict[str, Figure]:
        return {
            name: _figure(question, bins, mask, resampler, with_curve=with_curve)
            for name, mask in masks.items()
        }

    planes = {
        name: part.plane == number for number, name in enumerate(PLANE_NAMES) if (part.plane == number).any()
    }
    everything = np.ones(len(part), bool)
    return Task(
        overall=_figure(question, bins, everything, resampler, with_curve=True),
        plane=figures(planes, with_curve=True),
        charge=figures(_ranges(part.charge, (*charges, np.inf))),
        angle=figures(_ranges(part.angle, ANGLES)),
        reliability=_reliability(question, resampler),
    )


def _ranges(values: NDArray[np.float32], edges: Sequence[float]) -> dict[str, NDArray[np.bool_]]:
    """Cut values into bins, named by their edges; only those that hold something. The last edge belongs to its bin."""
    found = {}
    for low, high in pairwise(edges):
        mask = (values >= low) & ((values < high) | (high == edges[-1]) & (values == high))
        if mask.any():
            found[f"{low:g}-{high:g}" if np.isfinite(high) else f"{low:g} and more"] = mask
    return found


def _figure(
    question: _Question,
    bins: NDArray[np.intp],
    mask: NDArray[np.bool_],
    resampler: Resampler,
    *,
    with_curve: bool,
) -> Figure:
    score, is_signal, event = question.score[mask], question.is_signal[mask], question.part.event[mask]
    n_signal = int(is_signal.sum())
    auc, drawn = _area(score, is_signal, event, bins[mask], resampler, question.name)
    curve = roc_curve(score, is_signal) if with_curve else None
    return Figure(
        signal=n_signal,
        rest=len(score) - n_signal,
        auc=auc,
        resampled_auc=tuple(round(x, 7) if np.isfinite(x) else None for x in drawn.tolist()),
        cuts=_cuts(score, is_signal, event, resampler, question.name),
        curve=None
        if curve is None
        else Curve(
            cut=_rounded(curve.cut),
            efficiency=_rounded(curve.efficiency),
            false_positive_rate=_rounded(curve.false_positive_rate),
        ),
    )


def _area(
    score: NDArray[np.float64],
    is_signal: NDArray[np.bool_],
    event: NDArray[np.int32],
    bins: NDArray[np.intp],
    resampler: Resampler,
    name: tuple[str, str],
) -> tuple[Quantity, NDArray[np.float64]]:
    area = area_under_curve(score, is_signal)
    if area is None:
        missing = name[0] if not is_signal.any() else name[1]
        return Quantity(reason=f"there is no {missing}"), np.empty(0)
    used, place = np.unique(bins, return_inverse=True)
    drawn = areas_of_counts(
        resampler.weights @ resampler.counts(event[is_signal], place[is_signal], len(used)),
        resampler.weights @ resampler.counts(event[~is_signal], place[~is_signal], len(used)),
    )
    return resampler.quantity(area, drawn), drawn


def _cuts(
    score: NDArray[np.float64],
    is_signal: NDArray[np.bool_],
    event: NDArray[np.int32],
    resampler: Resampler,
    name: tuple[str, str],
) -> tuple[Cut, ...]:
    # Column k counts what passes the first k cuts and not the next.
    passed = np.searchsorted(CUTS, score, side="right")
    signal, rest = (
        resampler.counts(event[which], passed[which], len(CUTS) + 1) for which in (is_signal, ~is_signal)
    )
    found = []
    for number, cut in enumerate(CUTS, start=1):
        taken, wrong = signal[:, number:].sum(axis=1), rest[:, number:].sum(axis=1)
        found.append(
            Cut(
                cut=cut,
                efficiency=resampler.ratio(taken, signal.sum(axis=1), f"there is no {name[0]}"),
                false_positive_rate=resampler.ratio(wrong, rest.sum(axis=1), f"there is no {name[1]}"),
                purity=resampler.ratio(taken, taken + wrong, "nothing passes the cut"),
            )
        )
    return tuple(found)


def _reliability(question: _Question, resampler: Resampler) -> Reliability:
    score, event = question.score, question.part.event
    column = (score * RELIABILITY_BINS).astype(np.intp).clip(0, RELIABILITY_BINS - 1)
    number = resampler.counts(event, column, RELIABILITY_BINS)
    summed = resampler.counts(event, column, RELIABILITY_BINS, score)
    signal = resampler.counts(event, column, RELIABILITY_BINS, question.is_signal.astype(np.float64))
    total = number.sum(axis=0)

    def shares(sums: NDArray[np.float64]) -> tuple[float | None, ...]:
        return tuple(
            round(above / below, 6) if below else None
            for above, below in zip(sums.sum(axis=0).tolist(), total.tolist(), strict=True)
        )

    if total.sum():
        # |mean score − share of signal| × number = |sum of scores − number of signal|
        error = float(np.abs(summed.sum(axis=0) - signal.sum(axis=0)).sum() / total.sum())
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = np.abs(resampler.weights @ (summed - signal)).sum(axis=1) / (
                resampler.weights @ number
            ).sum(axis=1)
        quantity = resampler.quantity(error, drawn)
    else:
        quantity = Quantity(reason=f"there is neither {question.name[0]} nor {question.name[1]}")
    return Reliability(
        score=shares(summed),
        signal_share=shares(signal),
        number=tuple(total.astype(int).tolist()),
        expected_calibration_error=quantity,
    )


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values.tolist())
