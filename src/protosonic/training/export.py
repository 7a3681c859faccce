"""From a trained network to the arrays and the file of the model contract."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from protosonic.inference.architecture import SHAPES, published_model
from protosonic.publish import publish

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from protosonic.training.network import HitNetwork

__all__ = ["TRAINING_MARK", "export_model", "weights_of"]

TRAINING_MARK = "protosonic.training"
"""Metadata of a trained model: what it was trained with, as JSON."""


def weights_of(network: HitNetwork) -> dict[str, NDArray[np.float32]]:
    """Give the arrays of a network, by the names of :data:`protosonic.inference.architecture.SHAPES`."""
    weights = {}
    for name in SHAPES:
        layer, kind = name.rsplit("_", 1)
        part = getattr(network, layer)
        tensor = part.weight if kind == "w" else part.bias
        array = tensor.detach().float().cpu().numpy()
        weights[name] = np.ascontiguousarray(array.T if kind == "w" and layer != "conv" else array)
    return weights


def export_model(network: HitNetwork, path: Path, facts: Mapping[str, Any], *, eight_bits: bool) -> None:
    """Write an ONNX file.

    Parameters
    ----------
    network
        The trained network, calibrated.
    path
        The file.
    facts
        What it was trained with.
    eight_bits
        Whether the first dense layer is stored in 8 bits: 12 MB instead of 48 MB.
    """
    properties = {TRAINING_MARK: json.dumps(facts, sort_keys=True)}
    model = published_model(weights_of(network), "emtrkmichel", properties, eight_bits=eight_bits)
    with publish(path) as part:
        part.write_bytes(model.SerializeToString(deterministic=True))
