"""Pictures of an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from protosonic.reporting.event_display import figure_bytes, figure_class

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

    from protosonic.evaluation.record import Confusion, Evaluation, Figure, Level, Task

__all__ = ["evaluation_pictures"]

# Okabe and Ito: apart with colour-vision deficiency.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
QUESTIONS = {"track_vs_shower": "track vs shower", "michel_vs_rest": "Michel vs rest"}


def evaluation_pictures(found: Evaluation, other: Evaluation | None = None) -> Iterator[tuple[str, bytes]]:
    """Draw ROC curves, reliability, confusion and the figures by part, as PNG.

    Yields
    ------
    Name of the file and its content. The ROC curves of `other` are drawn over those of `found`, dashed.

    Raises
    ------
    ConfigError
        matplotlib is missing.
    """
    levels = {
        (name, "hits" if level == "hits" else "clusters"): getattr(scorer, level)
        for name, scorer in found.scorers.items()
        for level in ("hits", "truth_clusters")
    }
    others = {} if other is None else {name: scorer.hits for name, scorer in other.scorers.items()}
    yield "roc.png", figure_bytes(_roc(levels, others), "png")
    yield "parts.png", figure_bytes(_parts(levels), "png")
    yield "reliability.png", figure_bytes(_reliability(levels), "png")
    yield "confusion.png", figure_bytes(_confusion(levels), "png")


def _grid(rows: int, columns: int) -> tuple[Picture, list[list[Axes]]]:
    figure = figure_class()(figsize=(4.6 * columns, 4.0 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, [list(row) for row in axes]


def _tasks(levels: Mapping[tuple[str, str], Level], kind: str, question: str) -> dict[str, Task]:
    found = {name: getattr(level, question) for (name, what), level in levels.items() if what == kind}
    return {name: task for name, task in found.items() if task is not None}


def _roc(levels: Mapping[tuple[str, str], Level], others: Mapping[str, Level]) -> Picture:
    """Hits over all and by plane in the rows above, clusters in the last."""
    figure, axes = _grid(3, 2)
    for column, (question, title) in enumerate(QUESTIONS.items()):
        tasks = _tasks(levels, "hits", question)
        for colour, (name, task) in zip(COLOURS, tasks.items(), strict=False):
            _curve(axes[0][column], task.overall, name, colour)
            for style, (plane, part) in zip(("-", "--", ":"), task.plane.items(), strict=False):
                _curve(axes[1][column], part, f"{name} {plane}", colour, style)
        for colour, (name, level) in zip(COLOURS, others.items(), strict=False):
            task = getattr(level, question)
            if task is not None:
                _curve(axes[0][column], task.overall, f"other: {name}", colour, "--")
        for colour, (name, task) in zip(COLOURS, _tasks(levels, "clusters", question).items(), strict=False):
            _curve(axes[2][column], task.overall, name, colour)
        for row, what in enumerate(("hits", "hits by plane", "truth clusters")):
            axes[row][column].set(
                xlim=(0, 1), ylim=(0, 1.005), xlabel="false positive rate", ylabel="efficiency"
            )
            axes[row][column].set_title(f"{title}, {what}", fontsize=10)
            _legend(axes[row][column])
    return figure


def _curve(axes: Axes, figure: Figure, name: str, colour: str, style: str = "-") -> None:
    if figure.curve is None or figure.auc.value is None:
        return
    axes.plot(
        figure.curve.false_positive_rate,
        figure.curve.efficiency,
        style,
        color=colour,
        linewidth=1.2,
        label=f"{name}: {figure.auc.value:.4f}",
    )


def _parts(levels: Mapping[tuple[str, str], Level]) -> Picture:
    """Areas under the ROC curve of hits by plane, charge and angle."""
    figure, axes = _grid(3, 2)
    labels = {
        "plane": "plane",
        "charge": "charge of the hit [recob::Wire units x ticks]",
        "angle": "angle to the drift direction [degrees]",
    }
    for column, (question, title) in enumerate(QUESTIONS.items()):
        for row, (kind, label) in enumerate(labels.items()):
            here = axes[row][column]
            tasks = _tasks(levels, "hits", question)
            names = list(dict.fromkeys(name for task in tasks.values() for name in getattr(task, kind)))
            for number, (name, task) in enumerate(tasks.items()):
                parts = getattr(task, kind)
                known = [part for part in names if part in parts and parts[part].auc.value is not None]
                here.errorbar(
                    [names.index(part) + 0.1 * number for part in known],
                    [parts[part].auc.value for part in known],
                    yerr=[parts[part].auc.uncertainty or 0.0 for part in known],
                    fmt="o",
                    markersize=4,
                    color=COLOURS[number % len(COLOURS)],
                    label=name,
                )
            here.set_xticks(range(len(names)), names, fontsize=7)
            here.set(xlabel=label, ylabel="area under the ROC curve")
            here.set_title(f"{title}, hits", fontsize=10)
            here.grid(visible=True, alpha=0.3)
            _legend(here)
    return figure


def _reliability(levels: Mapping[tuple[str, str], Level]) -> Picture:
    figure, axes = _grid(1, 2)
    for (question, title), here in zip(QUESTIONS.items(), axes[0], strict=True):
        here.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
        for colour, (name, task) in zip(COLOURS, _tasks(levels, "hits", question).items(), strict=False):
            points = [
                (score, share)
                for score, share in zip(task.reliability.score, task.reliability.signal_share, strict=True)
                if score is not None and share is not None
            ]
            error = task.reliability.expected_calibration_error.value
            label = name if error is None else f"{name}: calibration error {error:.4f}"
            here.plot(*np.array(points).reshape(-1, 2).T, "o-", color=colour, markersize=3, label=label)
        here.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean score", ylabel="share of signal")
        here.set_title(f"{title}, hits", fontsize=10)
        _legend(here)
    return figure


def _confusion(levels: Mapping[tuple[str, str], Level]) -> Picture:
    tables: list[tuple[str, Confusion]] = [
        (f"{name}, {kind}", level.confusion)
        for (name, kind), level in levels.items()
        if level.confusion is not None
    ]
    figure, axes = _grid(1, len(tables))
    for (title, table), here in zip(tables, axes[0], strict=True):
        counts = np.array(table.counts, np.float64)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        here.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(counts.shape):
            here.text(
                column,
                row,
                f"{shares[row, column]:.3f}\n{counts[row, column]:.0f}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if shares[row, column] > 0.5 else "black",
            )
        here.set_xticks(range(len(table.classes)), table.classes)
        here.set_yticks(range(len(table.classes)), table.classes)
        here.set(xlabel="classified as", ylabel="really")
        here.set_title(title, fontsize=10)
    return figure


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best", fontsize=7)
