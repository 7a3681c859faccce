"""The published architecture in PyTorch, with its losses.

Conv 48 × 5×5 valid, ReLU, dense 128, ReLU, dense 32, ReLU, softmax over (track, em, none) and sigmoid (michel), dropout
of 0.2 after each hidden layer; cross entropy with weight 0.1 and mean squared error of michel with weight 1 (larrecodnn
``scripts/train_cnn.py``, arXiv:2203.17053).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from protosonic.events.truth import HitTruth
from protosonic.images.profiles import PATCH_SIZE

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["HitNetwork", "classes_of", "published_loss"]

FEATURES, KERNEL, HIDDEN, LAST = 48, 5, 128, 32
DROPOUT = 0.2
_SHARING = 32
CLASS_WEIGHT, MICHEL_WEIGHT = 0.1, 1.0
# A Michel electron is electromagnetic: the first output takes it as ``em``, the second tells it apart.
_CLASS_OF_LABEL = {"track": 0, "em": 1, "none": 2, "michel": 1}


class HitNetwork(nn.Module):
    """Maps patches to the logits of (track, em, none) and of michel."""

    def __init__(self) -> None:
        super().__init__()
        positions = PATCH_SIZE - KERNEL + 1
        self.conv = nn.Conv2d(1, FEATURES, KERNEL)
        self.dense_1 = nn.Linear(FEATURES * positions * positions, HIDDEN)
        self.dense_2 = nn.Linear(HIDDEN, LAST)
        self.em_trk_none = nn.Linear(LAST, 3)
        self.michel = nn.Linear(LAST, 1)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Give the logits, [N, 3] and [N], of patches [N, 48, 48]."""
        hidden = self._drop_features(torch.relu(self.conv(patches[:, None])))
        hidden = self.dropout(torch.relu(self.dense_1(hidden.flatten(1))))
        hidden = self.dropout(torch.relu(self.dense_2(hidden)))
        return self.em_trk_none(hidden), self.michel(hidden)[:, 0]

    def _drop_features(self, hidden: Tensor) -> Tensor:
        """Drop out features of the convolution; on a CPU some patches share what is dropped.

        There, drawing a number for each of 93,000 features of a patch would take two thirds of the time of a step.
        """
        if hidden.device.type != "cpu":
            return nn.functional.dropout(hidden, DROPOUT, self.training)
        if not self.training:
            return hidden
        groups = -(-len(hidden) // _SHARING)
        kept = torch.rand(groups, *hidden.shape[1:]) >= DROPOUT
        kept = (kept.to(hidden.dtype) / (1 - DROPOUT)).repeat_interleave(_SHARING, 0)
        dropped: Tensor = hidden * kept[: len(hidden)]
        return dropped


def classes_of(label: Tensor) -> tuple[Tensor, Tensor]:
    """Give what the outputs should say of labels: int64 index into (track, em, none), and float32 michel or not."""
    table = torch.tensor([_CLASS_OF_LABEL[name] for name in HitTruth.LABELS], device=label.device)
    return table[label.long()], (label == HitTruth.LABELS.index("michel")).float()


def published_loss(logits: tuple[Tensor, Tensor], label: Tensor) -> Tensor:
    """Give the loss of the published training, averaged over the patches."""
    classes, is_michel = classes_of(label)
    entropy = nn.functional.cross_entropy(logits[0].float(), classes)
    square = nn.functional.mse_loss(torch.sigmoid(logits[1].float()), is_michel)
    return CLASS_WEIGHT * entropy + MICHEL_WEIGHT * square
