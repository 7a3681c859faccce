"""Training sets straight from the simulation, without files between."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from protosonic.detectors import load_detector
from protosonic.events.model import EventId
from protosonic.simulation.generator import simulate_event
from protosonic.training.sampling import Sampling, sample_event
from protosonic.training.set_file import TrainingSet

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TRAINING_MIXTURE", "VALIDATION_MIXTURE", "Kind", "simulated_set"]


class Kind(NamedTuple):
    """One kind of simulated events; fields as in :func:`~protosonic.simulation.generator.simulate_event`."""

    detector: str
    share: float
    hits: int
    vary_conditions: bool
    stopping_share: float


TRAINING_MIXTURE = (
    Kind("protodune-sp", 0.6, 50_000, vary_conditions=True, stopping_share=0.4),
    Kind("protodune-hd", 0.15, 40_000, vary_conditions=True, stopping_share=0.4),
    Kind("dune10kt-1x2x6", 0.25, 20_000, vary_conditions=True, stopping_share=0.4),
)
"""Varied conditions, and more Michel electrons than nature has."""
VALIDATION_MIXTURE = (Kind("protodune-sp", 1.0, 50_000, vary_conditions=False, stopping_share=0.0),)


@dataclass(frozen=True)
class _Task:
    kind: Kind
    id: EventId
    seed: int
    sampling: Sampling


def simulated_set(
    events: int, mixture: Sequence[Kind], run: int, seed: int, sampling: Sampling, workers: int
) -> TrainingSet:
    """Simulate events and sample them, in several processes.

    Parameters
    ----------
    events
        Number of events; each kind gets its share of them, at least one.
    mixture
        The kinds.
    run
        Run number: sets of other runs have other events.
    seed
        Seed of the simulation.
    sampling
        What of the events is kept.
    workers
        Processes.

    Returns
    -------
    The set; it does not depend on the number of workers.
    """
    tasks = []
    for number, kind in enumerate(mixture):
        tasks += [
            _Task(kind, EventId(run, number, event + 1), seed, sampling)
            for event in range(max(round(events * kind.share), 1))
        ]
    # Forking a process with threads of linear algebra in it can hang.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        parts = list(pool.map(_simulate, tasks))
    header = {
        "simulated": [kind._asdict() for kind in mixture],
        "events": len(tasks),
        "run": run,
        "seed": seed,
    }
    return replace(TrainingSet.joined(parts), header=header)


def _simulate(task: _Task) -> TrainingSet:
    event = simulate_event(
        load_detector(task.kind.detector),
        task.id,
        0,
        task.kind.hits,
        task.seed,
        vary_conditions=task.kind.vary_conditions,
        stopping_share=task.kind.stopping_share,
    )
    return sample_event(event, task.sampling)
