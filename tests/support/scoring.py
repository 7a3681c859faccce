"""Scoring in tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protosonic.inference.dispatcher import Dispatcher


def score_batch(dispatcher: Dispatcher, patches: NDArray[np.float32]) -> tuple[NDArray[np.float32], str]:
    """Score one batch and return its scores and the one backend that made them."""
    [(scores, backends)] = dispatcher.score([patches])
    assert len(backends) == len(scores) == len(patches)
    [backend] = set(backends)
    return scores, backend
