"""One training from nothing to the files of a model."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protosonic.publish import publish_json
from protosonic.training.curves import draw_curves
from protosonic.training.export import export_model
from protosonic.training.fit import FitOptions, fit
from protosonic.training.sampling import Sampling
from protosonic.training.simulated import TRAINING_MIXTURE, VALIDATION_MIXTURE, simulated_set

if TYPE_CHECKING:
    from pathlib import Path

    from protosonic.training.set_file import TrainingSet

__all__ = ["TrainingPlan", "train", "train_on"]

log = logging.getLogger(__name__)

TRAINING_RUN, VALIDATION_RUN = 1001, 1002
"""Run numbers of simulated events: no event is in both sets, nor in what ``protosonic simulate`` makes by default."""


@dataclass(frozen=True)
class TrainingPlan:
    """What :func:`train` does; the fields that :class:`FitOptions` has, too, mean the same.

    Attributes
    ----------
    output
        Folder for ``model.onnx``, ``model-float32.onnx``, ``training.json`` and ``training.png``.
    events, validation_events
        Simulated events to train on and to validate with.
    workers
        Processes that simulate.
    """

    output: Path
    events: int = 40
    validation_events: int = 3
    workers: int = 2
    minutes: float = 20.0
    steps: int | None = None
    batch_size: int = 256
    learning_rate: float = 5e-4
    validation_hits: int = 20_000
    device: str = "auto"
    seed: int = 1


def train(plan: TrainingPlan) -> None:
    """Simulate events, train the network on them, and write its files."""
    sampling = Sampling(seed=plan.seed)
    training, validation = (
        simulated_set(events, mixture, run, plan.seed, sampling, plan.workers)
        for mixture, run, events in (
            (TRAINING_MIXTURE, TRAINING_RUN, plan.events),
            (VALIDATION_MIXTURE, VALIDATION_RUN, plan.validation_events),
        )
    )
    train_on(training, validation, plan)


def train_on(training: TrainingSet, validation: TrainingSet, plan: TrainingPlan) -> None:
    """Train the network on given sets, and write its files."""
    options = FitOptions(
        steps=plan.steps,
        minutes=plan.minutes,
        batch_size=plan.batch_size,
        learning_rate=plan.learning_rate,
        validation_hits=plan.validation_hits,
        seed=plan.seed,
        device=plan.device,
    )
    for name, each in (("training", training), ("validation", validation)):
        log.info("%s: %d events, %s", name, len(each.events), each.counts())
    result = fit(training, validation, options)
    plan.output.mkdir(parents=True, exist_ok=True)
    export_model(result.network, plan.output / "model-float32.onnx", result.facts, eight_bits=False)
    export_model(result.network, plan.output / "model.onnx", result.facts, eight_bits=True)
    publish_json(plan.output / "training.json", {"facts": result.facts, "history": result.history})
    draw_curves(result.history, plan.output / "training.png")
    log.info("written to %s", plan.output)
