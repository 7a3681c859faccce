"""A strong classical baseline: gradient boosting on local shape features of hits (scikit-learn)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from protosonic.errors import ConfigError, DataError
from protosonic.events.truth import HitTruth

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MOST_TRAINING_HITS", "Baseline"]

MOST_TRAINING_HITS = 300_000
"""More hits are thinned out at random: they take time and change the figures little."""
_TRACK, _EM, _NONE, _MICHEL = range(len(HitTruth.LABELS))


class Baseline:
    """Two ensembles of trees with the scores of the network: track, em, none; and michel.

    Parameters
    ----------
    features
        float32 [hits, features] of :func:`protosonic.evaluation.features.hit_features`.
    label
        int8 [hits]: classes; those of unknown class are left out.
    seed
        Decides which hits are thinned out.
    threads
        CPU threads. Left to itself OpenMP takes every core, and waits for those that others use.

    Raises
    ------
    ConfigError
        scikit-learn is missing.
    DataError
        Code ``no-truth``: the hits do not hold both tracks and showers.
    """

    def __init__(
        self, features: NDArray[np.float32], label: NDArray[np.int8], seed: int, threads: int = 1
    ) -> None:
        try:
            from sklearn.ensemble import HistGradientBoostingClassifier
            from threadpoolctl import threadpool_limits
        except ImportError as error:
            raise ConfigError(
                "the baseline needs scikit-learn", hint="Install it with: pip install 'protosonic[evaluate]'"
            ) from error
        rng = np.random.default_rng(seed)
        known = _thinned(label != HitTruth.UNKNOWN, rng)
        # A Michel electron is of no interest to the first three scores, as in the figures.
        plain = known[label[known] != _MICHEL]
        if not {_TRACK, _EM} <= set(label[plain].tolist()):
            raise DataError(
                "the baseline cannot learn from these hits",
                code="no-truth",
                expected="hits of tracks and of showers",
                found=f"{len(known)} hits of known class",
            )
        settings: dict[str, Any] = {
            "max_iter": 150,
            "learning_rate": 0.1,
            "max_leaf_nodes": 31,
            "l2_regularization": 1.0,
            "early_stopping": False,
            "random_state": seed,
        }
        self.n_training_hits = len(known)
        self._limits = partial(threadpool_limits, threads, "openmp")
        is_michel = label[known] == _MICHEL
        self._classes = HistGradientBoostingClassifier(**settings)
        self._michel = HistGradientBoostingClassifier(**settings) if is_michel.any() else None
        with self._limits():
            self._classes.fit(features[plain], label[plain])
            if self._michel is not None:
                self._michel.fit(features[known], is_michel)

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the scores, float32 [hits, 4]: track, em, none, michel; a class it has not seen scores 0."""
        scores = np.zeros((len(features), len(HitTruth.LABELS)), np.float32)
        if not len(features):
            return scores
        with self._limits():
            scores[:, self._classes.classes_.astype(int)] = self._classes.predict_proba(features)
            if self._michel is not None:
                scores[:, _MICHEL] = self._michel.predict_proba(features)[:, 1]
        return scores


def _thinned(known: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.intp]:
    hits = np.flatnonzero(known)
    if len(hits) <= MOST_TRAINING_HITS:
        return hits
    return np.sort(rng.choice(hits, MOST_TRAINING_HITS, replace=False))
