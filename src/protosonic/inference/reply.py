"""Reads the answer to an inference request, and believes nothing in it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from protosonic.errors import ModelError
from protosonic.inference.contract import join_scores
from protosonic.inference.failure_policy import EndpointError, FailureClass

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from protosonic.inference.contract import ModelTensors

__all__ = ["read_scores"]

_FLOAT_BYTES = 4
_ROUNDING = 1e-6
"""How far outside of 0 to 1 rounding may take a score."""


def read_scores(response: Any, tensors: ModelTensors, n: int, *, what: str) -> NDArray[np.float32]:
    """Read the scores in an answer.

    Parameters
    ----------
    response
        The answer, an ``inference.ModelInferResponse``.
    tensors
        What the model calls the tensors of the contract.
    n
        Number of patches that were sent.
    what
        The endpoint, named in errors.

    Returns
    -------
    float32 [n, 4], columns :data:`protosonic.inference.contract.SCORE_NAMES`; all are between 0 and 1.

    Raises
    ------
    EndpointError
        An output is missing or there twice, has another type or shape than it must have, or a buffer that is not of
        its size; a score is not finite, or not between 0 and 1.
    """
    found = [output.name for output in response.outputs]
    outputs: dict[str, NDArray[np.float32]] = {}
    for contract_name, name in tensors.outputs.items():
        if found.count(name) != 1:
            raise _wrong(f"the answer must have one output {name}", what, found=found or "none")
        outputs[contract_name] = _output(response, found.index(name), what)
    try:
        scores = join_scores(outputs, n, what=what)
    except ModelError as error:
        raise _wrong(error.message, what, expected=error.expected, found=error.found) from error
    if scores.min(initial=0) < -_ROUNDING or scores.max(initial=1) > 1 + _ROUNDING:
        raise _wrong(
            "the scores are not between 0 and 1", what, found=f"{scores.min():g} to {scores.max():g}"
        )
    return scores


def _output(response: Any, index: int, what: str) -> NDArray[np.float32]:
    """Read an output: bytes, as Triton sends, or numbers, as other servers may."""
    output, raw = response.outputs[index], response.raw_output_contents
    shape = tuple(output.shape)
    if output.datatype != "FP32":
        problem = f"type {output.datatype or 'missing'}"
    elif raw and (len(raw) != len(response.outputs) or output.contents.fp32_contents):
        problem = f"{len(raw)} byte contents for {len(response.outputs)} outputs, or contents of both forms"
    elif raw and len(raw[index]) % _FLOAT_BYTES:
        problem = f"{len(raw[index])} bytes"
    else:
        values = np.frombuffer(raw[index], "<f4") if raw else np.array(output.contents.fp32_contents, "<f4")
        if min(shape, default=0) >= 0 and values.size == math.prod(shape):
            return values.reshape(shape).astype(np.float32, copy=False)
        problem = f"{values.size} values for the shape {list(shape)}"
    raise _wrong(
        f"output {output.name} cannot be read",
        what,
        expected="FP32 contents of the size of its shape",
        found=problem,
    )


def _wrong(message: str, what: str, *, expected: object = None, found: object = None) -> EndpointError:
    return EndpointError(message, FailureClass.WRONG_ANSWER, file=what, expected=expected, found=found)
