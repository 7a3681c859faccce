"""The model contract: names, shapes and types of the tensors, and what their columns mean.

They are those of the published ProtoDUNE network (LArSoft wiki, "GPU as a Service" part 2): input ``main_input`` FP32
[N, 48, 48, 1]; outputs ``em_trk_none_netout`` FP32 [N, 3] (track, em, none; softmax) and ``michel_netout`` FP32 [N, 1]
(sigmoid). Conversion from TensorFlow appends ``/Softmax``, ``/Sigmoid`` or ``:0``; such names are taken too. Scores
are found by name, never by position.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from protosonic.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from protosonic.inference.hits import HitBatch

__all__ = [
    "INPUT_NAME",
    "OUTPUTS",
    "PATCH_BYTES",
    "SCORE_NAMES",
    "Backend",
    "ModelTensors",
    "TensorSpec",
    "check_finite",
    "join_scores",
]

INPUT_NAME = "main_input"
OUTPUTS = {"em_trk_none_netout": ("track", "em", "none"), "michel_netout": ("michel",)}
SCORE_NAMES = ("track", "em", "none", "michel")
"""Columns of every score array, in this order."""
_SUFFIXES = ("/Softmax", "/Sigmoid")
_PATCH_SHAPE = (48, 48, 1)
PATCH_BYTES = 48 * 48 * 4
"""Bytes of one patch, float32."""


@dataclass(frozen=True)
class TensorSpec:
    """Name, type and shape of a tensor of a model; a dimension that is not fixed is ``None``."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} [{', '.join('?' if n is None else str(n) for n in self.shape)}]"


@dataclass(frozen=True)
class ModelTensors:
    """The names that a model gives to the tensors of the contract.

    Attributes
    ----------
    input
        Name of the input.
    outputs
        Name in the contract → name in the model.
    """

    input: str
    outputs: Mapping[str, str]

    @classmethod
    def match(cls, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], *, what: str) -> ModelTensors:
        """Find the tensors of the contract among those of a model.

        Parameters
        ----------
        inputs, outputs
            What the model has; more outputs than the contract names are allowed.
        what
            The model file or endpoint, named in errors.

        Raises
        ------
        ModelError
            A tensor is missing, has another type or shape, or there is another input.
        """
        problems = []
        main = [spec for spec in inputs if _stem(spec.name) == INPUT_NAME]
        if len(inputs) != 1 or len(main) != 1:
            problems.append(f"the only input must be {INPUT_NAME}, but the inputs are {_list(inputs)}")
        else:
            problems += _mismatch(main[0], _PATCH_SHAPE)
        found, problems_of_outputs = _match_outputs(outputs)
        _raise_if_any(problems + problems_of_outputs, what)
        return cls(main[0].name, found)

    @classmethod
    def match_image_model(cls, outputs: Sequence[TensorSpec], *, what: str) -> ModelTensors:
        """Find the outputs of a model that takes images (:mod:`protosonic.inference.image_payload`).

        Raises
        ------
        ModelError
            An output is missing, or has another type or shape.
        """
        found, problems = _match_outputs(outputs)
        _raise_if_any(problems, what)
        return cls("", found)


class Backend(Protocol):
    """Computes scores on this machine.

    Attributes
    ----------
    name
        Value of the dataset's ``backend`` column.
    engine
        What computes, for the status file.
    batch_size
        Hits per call that suit it best.
    concurrency
        Calls that it takes at the same time, from as many threads.
    """

    name: str
    engine: str
    batch_size: int
    concurrency: int

    def infer(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the scores of patches.

        Parameters
        ----------
        patches
            float32 [n, 48, 48].

        Returns
        -------
        float32 [n, 4], columns :data:`SCORE_NAMES`; every score is finite.

        Raises
        ------
        ModelError
            The model gave something else than n finite scores.
        """
        ...

    def score(self, hits: HitBatch) -> NDArray[np.float32]:
        """Compute the scores of hits; gives and raises what :meth:`infer` does."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...


def join_scores(outputs: Mapping[str, NDArray[np.float32]], n: int, *, what: str) -> NDArray[np.float32]:
    """Check the outputs of a model and put them into one array.

    Parameters
    ----------
    outputs
        Name in the contract → array.
    n
        Number of patches that were sent.
    what
        The model file or endpoint, named in errors.

    Returns
    -------
    float32 [n, 4], columns :data:`SCORE_NAMES`.

    Raises
    ------
    ModelError
        A shape or type is wrong, or a score is not finite.
    """
    scores = np.empty((n, len(SCORE_NAMES)), np.float32)
    for name, classes in OUTPUTS.items():
        output = outputs[name]
        if output.shape != (n, len(classes)) or output.dtype != np.float32:
            raise ModelError(
                f"output {name} is wrong",
                file=what,
                expected=f"float32 [{n}, {len(classes)}]",
                found=f"{output.dtype} {list(output.shape)}",
            )
        for column, label in enumerate(classes):
            scores[:, SCORE_NAMES.index(label)] = output[:, column]
    check_finite(scores, what=what)
    return scores


def check_finite(scores: NDArray[np.float32], *, what: str) -> None:
    """Check that all scores, float32 [n, 4], are finite.

    Raises
    ------
    ModelError
        One is not.
    """
    bad = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(bad):
        raise ModelError(
            f"{len(bad)} of {len(scores)} patches got a score that is not finite",
            file=what,
            found=scores[bad[0]],
        )


def _match_outputs(outputs: Sequence[TensorSpec]) -> tuple[dict[str, str], list[str]]:
    found: dict[str, str] = {}
    problems = []
    for name, classes in OUTPUTS.items():
        candidates = [spec for spec in outputs if _stem(spec.name) == name]
        if len(candidates) != 1:
            problems.append(f"there must be one output {name}, but the outputs are {_list(outputs)}")
            continue
        problems += _mismatch(candidates[0], (len(classes),))
        found[name] = candidates[0].name
    return found, problems


def _raise_if_any(problems: Sequence[str], what: str) -> None:
    if problems:
        raise ModelError(
            f"the model does not meet the contract: {'; '.join(problems)}",
            file=what,
            hint="docs/models.md says what a model must look like",
        )


def _stem(name: str) -> str:
    name = name.removesuffix(":0")
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _mismatch(spec: TensorSpec, shape: tuple[int, ...]) -> list[str]:
    fits = (
        spec.dtype == "FP32"
        and len(spec.shape) == len(shape) + 1
        and spec.shape[0] is None
        and all(have in {None, want} for have, want in zip(spec.shape[1:], shape, strict=True))
    )
    wanted = f"FP32 [N, {', '.join(map(str, shape))}]"
    return [] if fits else [f"{spec.name} must be {wanted} with any N, but is {spec}"]


def _list(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(map(str, specs)) or "none"
