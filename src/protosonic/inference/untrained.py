"""The published architecture with seeded random weights.

It costs what the trained network costs and its scores mean nothing: whoever shows them must say that it is untrained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from protosonic.inference.architecture import published_model
from protosonic.publish import publish

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["UNTRAINED_MARK", "is_untrained", "untrained_model", "write_untrained_model"]

UNTRAINED_MARK = "protosonic.untrained"


def untrained_model(seed: int = 1) -> onnx.ModelProto:
    """Build the network with Glorot-uniform weights and small biases that depend on the seed only."""
    rng = np.random.Generator(np.random.PCG64(seed))
    weights = {
        "conv_w": _glorot(rng, (48, 1, 5, 5), 25, 48 * 25),
        "conv_b": _small(rng, 48),
        "dense_1_w": _glorot(rng, (48 * 44 * 44, 128), 48 * 44 * 44, 128),
        "dense_1_b": _small(rng, 128),
        "dense_2_w": _glorot(rng, (128, 32), 128, 32),
        "dense_2_b": _small(rng, 32),
        "em_trk_none_w": _glorot(rng, (32, 3), 32, 3),
        "em_trk_none_b": _small(rng, 3),
        "michel_w": _glorot(rng, (32, 1), 32, 1),
        "michel_b": _small(rng, 1),
    }
    return published_model(weights, "emtrkmichel_untrained", {UNTRAINED_MARK: f"seed {seed}"})


def write_untrained_model(path: Path, seed: int = 1) -> None:
    """Write :func:`untrained_model` to an ONNX file; the bytes depend on the seed only."""
    with publish(path) as part:
        part.write_bytes(untrained_model(seed).SerializeToString(deterministic=True))


def is_untrained(path: Path) -> bool:
    """Whether an ONNX file carries the mark of the untrained network."""
    model = onnx.load(path, load_external_data=False)
    return any(entry.key == UNTRAINED_MARK for entry in model.metadata_props)


def _glorot(
    rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int
) -> NDArray[np.float32]:
    limit = np.float32(np.sqrt(6 / (fan_in + fan_out)))
    return (rng.random(shape, dtype=np.float32) * 2 - 1) * limit


def _small(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Biases that are not zero, so that no test can pass by leaving them out."""
    return (rng.random(n, dtype=np.float32) - np.float32(0.5)) * np.float32(0.1)
