"""Scoring in tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protosonic.inference.dispatcher import Dispatcher


def score_batch(dispatcher: Dispatcher, patches: NDArray[np.float32]) -> tuple[NDArray[np.float32], str]:
    """Score one batch and return its scores and the one backend that made them."""
    chunks = list(dispatcher.score([patches]))
    scores = np.concatenate([scores for scores, _ in chunks])
    [backend] = {backend for _, backends in chunks for backend in backends}
    assert len(scores) == len(patches)
    return scores, backend
