"""Calibration: scores that are probabilities for the mixture of hits of whole events.

Training shows the classes about equally often, so its scores are too high for the rare ones. One temperature and a
shift for each class of the softmax, a slope and a shift for michel, are fitted to hits as they come in events that were
not trained on, and become part of the last layers: order of scores and ROC curves stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from protosonic.training.network import classes_of

if TYPE_CHECKING:
    from torch import Tensor

    from protosonic.training.network import HitNetwork

__all__ = ["calibrate"]


def calibrate(network: HitNetwork, logits: tuple[Tensor, Tensor], label: Tensor) -> dict[str, list[float]]:
    """Fit the calibration and put it into the last layers.

    Parameters
    ----------
    network
        Changed in place.
    logits, label
        Outputs of the network for hits as they come in events, and the classes of these hits.

    Returns
    -------
    The slopes and shifts of both outputs.
    """
    classes, is_michel = classes_of(label)
    three, one = logits[0].double(), logits[1].double()
    slope = torch.zeros(2, dtype=torch.float64, device=label.device, requires_grad=True)  # logarithms
    shift = torch.zeros(4, dtype=torch.float64, device=label.device, requires_grad=True)
    optimiser = torch.optim.LBFGS([slope, shift], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = functional.cross_entropy(three * slope[0].exp() + shift[:3], classes)
        value = value + functional.binary_cross_entropy_with_logits(
            one * slope[1].exp() + shift[3], is_michel.double()
        )
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        factors = slope.exp().float()
        for layer, factor, added in (
            (network.em_trk_none, factors[0], shift[:3]),
            (network.michel, factors[1], shift[3:]),
        ):
            layer.weight *= factor
            layer.bias.copy_(layer.bias * factor + added.float())
    return {"slope": factors.tolist(), "shift": shift.detach().tolist()}
