"""The weights of the published architecture in one layout, whatever the file they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FEATURES", "HIDDEN", "KERNEL", "POSITIONS", "CnnWeights"]

FEATURES = 48
"""Features of the convolution."""
KERNEL = 5
"""Height and width of the convolution."""
POSITIONS = 44
"""Rows and columns of the convolution's output for one patch."""
HIDDEN = 128
"""Outputs of the first dense layer."""


@dataclass(frozen=True, eq=False)
class CnnWeights:
    """Convolution and dense layers, all float32; a dense layer maps the last axis but one to the last.

    Attributes
    ----------
    kernel, bias
        Convolution [5, 5, 48], its bias [48]; ReLU follows.
    dense_1, bias_1
        First dense layer [44, 44, 48, 128], by position in the patch and feature; ReLU follows.
    dense_2, bias_2
        Second dense layer [128, 32]; ReLU follows.
    classes, classes_bias
        Layer [32, 3] of track, em and none; softmax follows.
    michel, michel_bias
        Layer [32, 1] of michel; sigmoid follows.
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    dense_1: NDArray[np.float32]
    bias_1: NDArray[np.float32]
    dense_2: NDArray[np.float32]
    bias_2: NDArray[np.float32]
    classes: NDArray[np.float32]
    classes_bias: NDArray[np.float32]
    michel: NDArray[np.float32]
    michel_bias: NDArray[np.float32]
