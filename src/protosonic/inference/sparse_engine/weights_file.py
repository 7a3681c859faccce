"""The weights of a model in a file of their own, so that not every job has to recognise its network again.

Stage ``model`` writes it once for a campaign. Beside the weights it holds the scores that ONNX Runtime gives the
golden batch: a job compares those of its own engine with them, and needs neither ONNX nor ONNX Runtime for that.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from protosonic import __version__
from protosonic.inference.golden import GOLDEN_PATCHES
from protosonic.inference.sparse_engine.weights import FEATURES, HIDDEN, KERNEL, POSITIONS, CnnWeights
from protosonic.publish import publish

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["KnownNetwork", "WeightsFile", "read_weights", "write_weights"]

FORMAT = "protosonic-weights-1"
SHAPES = {
    "kernel": (KERNEL, KERNEL, FEATURES),
    "bias": (FEATURES,),
    "dense_1": (POSITIONS, POSITIONS, FEATURES, HIDDEN),
    "bias_1": (HIDDEN,),
    "dense_2": (HIDDEN, 32),
    "bias_2": (32,),
    "classes": (32, 3),
    "classes_bias": (3,),
    "michel": (32, 1),
    "michel_bias": (1,),
    "golden_scores": (GOLDEN_PATCHES, 4),
}

log = logging.getLogger(__name__)


class WeightsFile(NamedTuple):
    """A weights file, and the SHA-256 of the model that it must be of."""

    path: Path
    model_sha256: str


class KnownNetwork(NamedTuple):
    """What a weights file says.

    Attributes
    ----------
    weights
        ``None`` where the model is another network, which ONNX Runtime computes.
    golden_scores
        float32 [16, 4]: the golden batch scored by ONNX Runtime; empty where there are no weights.
    """

    weights: CnnWeights | None
    golden_scores: NDArray[np.float32]


def write_weights(path: Path, network: KnownNetwork, model_sha256: str) -> None:
    """Write a weights file.

    Parameters
    ----------
    path
        The file.
    network
        What :func:`~.recognise.recognise` found, with the scores of the golden batch.
    model_sha256
        SHA-256 of the model.
    """
    arrays = {} if network.weights is None else asdict(network.weights)
    arrays["golden_scores"] = network.golden_scores
    with publish(path) as part, part.open("wb") as file:
        np.savez(file, head=_head(model_sha256), **arrays)


def read_weights(file: WeightsFile) -> KnownNetwork | None:
    """Read a weights file; every array carries a checksum.

    Returns
    -------
    ``None``, with a message in the log, where the file is missing, damaged, of another model or another version: the
    model says the same, it only takes longer.
    """
    try:
        with file.path.open("rb") as raw, np.load(raw, allow_pickle=False) as arrays:
            if not np.array_equal(arrays["head"], _head(file.model_sha256)):
                log.warning("%s: of another model or version; the model is read instead", file.path)
                return None
            if "kernel" not in arrays:
                return KnownNetwork(None, arrays["golden_scores"])
            found = {name: arrays[name] for name in SHAPES}
    except Exception as error:  # noqa: BLE001  (a bit of a damaged archive can make NumPy raise almost anything)
        log.warning("%s: cannot be used (%s); the model is read instead", file.path, error)
        return None
    if any(array.dtype != np.float32 or array.shape != SHAPES[name] for name, array in found.items()):
        log.warning("%s: arrays of other types or shapes; the model is read instead", file.path)
        return None
    golden = found.pop("golden_scores")
    return KnownNetwork(CnnWeights(**found), golden)


def _head(model_sha256: str) -> NDArray[np.uint8]:
    """Say what the file is, as bytes of JSON: another version may recognise other networks."""
    head = json.dumps({"format": FORMAT, "version": __version__, "model_sha256": model_sha256})
    return np.frombuffer(head.encode(), np.uint8)
