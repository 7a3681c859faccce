"""The proof that an endpoint may get work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from protosonic.inference.failure_policy import EndpointError, FailureClass

if TYPE_CHECKING:
    from protosonic.inference.contract import ModelTensors
    from protosonic.inference.golden import Reference
    from protosonic.inference.triton_client import TritonClient

__all__ = ["ServedModel", "check_endpoint"]


@dataclass(frozen=True)
class ServedModel:
    """What an endpoint serves.

    Attributes
    ----------
    version
        The version that answered.
    tensors
        The names of its tensors.
    max_batch_size
        Most patches in one request; 0 where the server sets no limit or does not tell.
    deviation
        Largest difference of its scores of the golden batch from those of the local model; ``None`` without one.
    """

    version: str
    tensors: ModelTensors
    max_batch_size: int
    deviation: float | None


def check_endpoint(client: TritonClient, reference: Reference) -> ServedModel:
    """Prove that an endpoint can serve: live, not turning clients away, the right model, ready, with the right scores.

    Parameters
    ----------
    client
        A client of the endpoint; it uses the tensor names of the served model from then on.
    reference
        The golden batch and its scores by the local model.

    Raises
    ------
    EndpointError
        The first thing that is wrong, with its class.
    """
    options = client.options

    def problem(message: str, failure: FailureClass, hint: str) -> EndpointError:
        return EndpointError(message, failure, file=str(options), hint=hint)

    if not client.is_live():
        raise problem("the server is not live", FailureClass.NOT_READY, "It may be starting or stopping")
    client.repository_index()
    if not client.is_model_ready():
        raise problem(
            "the model is not ready",
            FailureClass.NOT_READY,
            "Check model.name and model.version, or load the model",
        )
    tensors = client.read_tensors()
    config = client.model_config()
    max_batch_size = int(config.max_batch_size) if config is not None else 0
    size = max_batch_size or len(reference.patches)
    answers = [
        client.infer(client.prepare(reference.patches[first : first + size]))
        for first in range(0, len(reference.patches), size)
    ]
    deviation = reference.check(np.concatenate([answer.scores for answer in answers]), str(options))
    client.was_ready = True
    return ServedModel(answers[-1].model_version, tensors, max_batch_size, deviation)
