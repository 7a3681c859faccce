"""Differences between two evaluations, or two scorers of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from protosonic.evaluation.record import Figure, Level, Scorer

__all__ = ["Difference", "compare_scorers", "figures_of_level"]


class Difference(NamedTuple):
    """How an area under a ROC curve differs.

    Attributes
    ----------
    level, question, part
        What it is of, such as ``hits``, ``track_vs_shower`` and ``plane W``.
    value, other
        The two areas.
    uncertainty
        Of ``value − other``; ``None`` where one has none.
    is_paired
        Whether both were computed on the same draws of the same events, so that what is common to both cancels.
    """

    level: str
    question: str
    part: str
    value: float
    other: float
    uncertainty: float | None
    is_paired: bool

    @property
    def difference(self) -> float:
        """Value − other."""
        return self.value - self.other


def compare_scorers(scorer: Scorer, other: Scorer, *, same_draws: bool) -> Iterator[Difference]:
    """Give the differences of all areas that both have.

    Parameters
    ----------
    scorer, other
        The two.
    same_draws
        Whether both are of the same sample, seed and number of draws.
    """
    for level in ("hits", "truth_clusters"):
        ours, theirs = (
            dict(figures_of_level(getattr(scorer, level))),
            dict(figures_of_level(getattr(other, level))),
        )
        for key in ours.keys() & theirs.keys():
            found = _difference((level, *key), ours[key], theirs[key], same_draws=same_draws)
            if found is not None:
                yield found


def figures_of_level(level: Level) -> Iterator[tuple[tuple[str, str], Figure]]:
    """Give the figures of a level by question and part."""
    for question in ("track_vs_shower", "michel_vs_rest"):
        task = getattr(level, question)
        if task is None:
            continue
        yield (question, "all"), task.overall
        for kind in ("plane", "charge", "angle"):
            for name, figure in getattr(task, kind).items():
                yield (question, f"{kind} {name}"), figure


def _difference(
    key: tuple[str, str, str], ours: Figure, theirs: Figure, *, same_draws: bool
) -> Difference | None:
    if ours.auc.value is None or theirs.auc.value is None:
        return None
    paired = (
        np.array(ours.resampled_auc, np.float64) - np.array(theirs.resampled_auc, np.float64)
        if same_draws and len(ours.resampled_auc) == len(theirs.resampled_auc)
        else np.empty(0)
    )
    paired = paired[np.isfinite(paired)]
    uncertainty = None
    if len(paired) > 1:
        uncertainty = float(paired.std(ddof=1))
    elif ours.auc.uncertainty is not None and theirs.auc.uncertainty is not None:
        uncertainty = float(np.hypot(ours.auc.uncertainty, theirs.auc.uncertainty))
    return Difference(*key, ours.auc.value, theirs.auc.value, uncertainty, len(paired) > 1)
