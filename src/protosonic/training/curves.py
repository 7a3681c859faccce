"""The course of a training as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protosonic.publish import publish

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["draw_curves"]


def draw_curves(history: Sequence[dict[str, float]], path: Path) -> None:
    """Draw losses and areas under ROC curves against the steps; the format follows the ending of the name."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    losses, areas = figure.subplots(1, 2)
    step = [entry["step"] for entry in history]
    for name, style in (("training_loss", "--"), ("validation_loss", "-")):
        losses.plot(step, [entry[name] for entry in history], style, label=name.replace("_", " "))
    losses.set(xlabel="step", ylabel="loss", yscale="log")
    for name in sorted({name for entry in history for name in entry if name.startswith("auc_")}):
        label = name.removeprefix("auc_").replace("_", ", plane ")
        areas.plot(step, [entry[name] for entry in history], label=label)
    areas.set(xlabel="step", ylabel="area under the ROC curve, validation")
    for axes in (losses, areas):
        axes.legend(frameon=False, fontsize="small")
        axes.grid(alpha=0.3)
    with publish(path) as part:
        figure.savefig(part, format=path.suffix.removeprefix("."), dpi=150)
