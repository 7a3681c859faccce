"""The gate of ``precision: fast``: what it changes on simulated hits whose classes are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from protosonic.campaign.records import FastPrecision
from protosonic.detectors import load_detector
from protosonic.errors import ModelError
from protosonic.evaluation.roc import area_under_curve
from protosonic.events.model import EventId
from protosonic.events.truth import HitTruth
from protosonic.images.profiles import load_profile
from protosonic.images.unit import prepare_event
from protosonic.inference.contract import SCORE_NAMES
from protosonic.inference.cpu_backend import load_cpu_backend
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.simulation.generator import simulate_event
from protosonic.stages.infer import hit_batches, order_on_image

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["MOST_CHANGE", "check_fast_precision"]

MOST_CHANGE = 0.001
"""Of a figure of merit."""
HITS = 4000
SEED = 1


def check_fast_precision(model: Path, profile_name: str) -> FastPrecision:
    """Score a simulated event exactly and fast, and compare the figures of merit.

    Parameters
    ----------
    model
        ONNX file that meets the model contract.
    profile_name
        The preprocessing profile of the campaign.

    Raises
    ------
    ModelError
        A figure of merit changes by more than :data:`MOST_CHANGE`.
    """
    profile = load_profile(profile_name)
    event = simulate_event(load_detector("protodune-sp"), EventId(1, 1, 1), 0, HITS, SEED)
    assert event.truth is not None
    unit = prepare_event(event, profile, (0, 1, 2))
    batches = list(hit_batches([unit], profile, 1, blank_duplicates=False))
    order = np.concatenate([image.hits["hit"][order_on_image(image)] for image in unit.images])
    label = event.truth.label[order]
    exact = OnnxRuntimeBackend(model, threads=1)
    fast = load_cpu_backend(model, threads=1, background=profile.zero_level, precision="fast")
    scores = {
        name: np.concatenate([backend.score(batch) for batch in batches])
        for name, backend in (("exact", exact), ("fast", fast))
    }
    found = FastPrecision(
        engine=fast.engine,
        deviation=float(np.abs(scores["fast"] - scores["exact"]).max()),
        figures={name: _figures(values, label) for name, values in scores.items()},
    )
    exact.close()
    fast.close()
    for figure, value in found.figures["exact"].items():
        change = abs(found.figures["fast"][figure] - value)
        if not change <= MOST_CHANGE:
            raise ModelError(
                "precision fast changes what the model is worth",
                file=model,
                where="inference.precision",
                expected=f"a change of {figure} by at most {MOST_CHANGE}",
                found=f"{change:.2g}",
                hint="Use inference.precision: exact",
            )
    return found


def _figures(scores: NDArray[np.float32], label: NDArray[np.int8]) -> dict[str, float]:
    by_name = {name: scores[:, column] for column, name in enumerate(SCORE_NAMES)}
    track, em, michel = (HitTruth.LABELS.index(name) for name in ("track", "em", "michel"))
    is_either = (label == track) | (label == em)
    shower = (by_name["em"] - by_name["track"])[is_either]
    areas = {
        "AUC of track against shower": area_under_curve(shower, label[is_either] == em),
        "AUC of michel against the rest": area_under_curve(by_name["michel"], label == michel),
    }
    return {name: area for name, area in areas.items() if area is not None}
