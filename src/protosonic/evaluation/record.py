"""The outcome of an evaluation, as JSON; docs/evaluation.md describes it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from protosonic.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "Confusion",
    "Curve",
    "Cut",
    "Evaluation",
    "Figure",
    "Level",
    "Quantity",
    "Reliability",
    "SampleRecord",
    "Scorer",
    "Task",
    "read_evaluation",
]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Quantity(_Record):
    """A number with its uncertainty (one standard deviation); null where there is none, with the reason."""

    value: float | None = None
    uncertainty: float | None = None
    reason: str | None = None


class Cut(_Record):
    """What is taken for signal at or above a cut on the score."""

    cut: float
    efficiency: Quantity
    false_positive_rate: Quantity
    purity: Quantity


class Curve(_Record):
    """Points of a ROC curve."""

    cut: tuple[float, ...]
    efficiency: tuple[float, ...]
    false_positive_rate: tuple[float, ...]


class Figure(_Record):
    """How well a score tells signal from the rest, in some part of the sample."""

    signal: int
    rest: int
    auc: Quantity
    resampled_auc: tuple[float | None, ...]
    cuts: tuple[Cut, ...]
    curve: Curve | None = None


class Reliability(_Record):
    """Whether scores are probabilities: per bin of the score its mean, the share of signal and the number."""

    score: tuple[float | None, ...]
    signal_share: tuple[float | None, ...]
    number: tuple[int, ...]
    expected_calibration_error: Quantity


class Task(_Record):
    """The figures of one question, over all and in parts."""

    overall: Figure
    plane: dict[str, Figure]
    charge: dict[str, Figure]
    angle: dict[str, Figure]
    reliability: Reliability


class Confusion(_Record):
    """How many of each true class (rows) are classified as what (columns)."""

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


class Level(_Record):
    """All figures, counted by hits or by truth clusters; without them the reason."""

    number: int
    left_out: int = 0
    reason: str | None = None
    track_vs_shower: Task | None = None
    michel_vs_rest: Task | None = None
    confusion: Confusion | None = None


class Scorer(_Record):
    """What gave the scores, and how good they are."""

    description: str
    hits: Level
    truth_clusters: Level


class SampleRecord(_Record):
    """What was evaluated."""

    source: tuple[str, ...]
    events: int
    hits: int
    hits_by_class: dict[str, int]
    hits_of_unknown_class: int
    digest: str


class Evaluation(_Record):
    """The whole file."""

    format: Literal["protosonic-evaluation"] = "protosonic-evaluation"
    version: Literal[1] = 1
    package_version: str
    sample: SampleRecord
    resamples: int
    seed: int
    scorers: dict[str, Scorer]


def read_evaluation(path: Path) -> Evaluation:
    """Read the JSON file of an evaluation.

    Raises
    ------
    DataError
        Code ``unreadable`` or ``wrong-format``.
    """
    try:
        return Evaluation.model_validate(json.loads(path.read_bytes()))
    except OSError as error:
        raise DataError(
            f"the evaluation cannot be read: {error.strerror}", code="unreadable", file=path
        ) from error
    except (ValueError, ValidationError) as error:
        raise DataError(
            "not an evaluation",
            code="wrong-format",
            file=path,
            found=str(error).splitlines()[0],
            hint="Give the evaluation.json that 'protosonic model evaluate' wrote",
        ) from error
