"""The outcome of an evaluation on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from protosonic.evaluation.comparison import compare_scorers, figures_of_level

if TYPE_CHECKING:
    from collections.abc import Iterable

    from protosonic.evaluation.comparison import Difference
    from protosonic.evaluation.record import Evaluation, Figure, Quantity, Scorer

__all__ = ["print_evaluation", "quantity_text"]

QUESTIONS = {"track_vs_shower": "track vs shower", "michel_vs_rest": "Michel vs rest"}
LEVELS = {"hits": "hits", "truth_clusters": "truth clusters"}
SHOWN_CUT = 0.5


def print_evaluation(found: Evaluation, other: Evaluation | None = None) -> None:
    """Print the tables of an evaluation, and its differences from another one."""
    console = Console()
    sample = found.sample
    classes = ", ".join(f"{number} {name}" for name, number in sample.hits_by_class.items())
    console.print(
        f"{sample.events} events, {sample.hits} hits of known class ({classes}); "
        f"{sample.hits_of_unknown_class} hits of unknown class are left out",
        soft_wrap=True,
    )
    for name, scorer in found.scorers.items():
        console.print(f"[bold]{escape(name)}[/bold]: {escape(scorer.description)}", soft_wrap=True)
        console.print(_scorer_table(scorer))
        for level, title in LEVELS.items():
            reason = getattr(scorer, level).reason
            if reason is not None:
                console.print(f"{title}: {escape(reason)}", soft_wrap=True)
    scorers = list(found.scorers)
    for name in scorers[1:]:
        differences = compare_scorers(found.scorers[scorers[0]], found.scorers[name], same_draws=True)
        console.print(_difference_table(differences, f"{scorers[0]} − {name}"))
    if other is not None:
        same = (found.sample.digest, found.seed, found.resamples) == (
            other.sample.digest,
            other.seed,
            other.resamples,
        )
        for name in found.scorers.keys() & other.scorers.keys():
            differences = compare_scorers(found.scorers[name], other.scorers[name], same_draws=same)
            console.print(_difference_table(differences, f"{name}: this − other"))


def quantity_text(quantity: Quantity) -> str:
    """Write a number with its uncertainty, or why there is none."""
    if quantity.value is None:
        return quantity.reason or "none"
    if quantity.uncertainty is None:
        return f"{quantity.value:.4f}"
    return f"{quantity.value:.4f} ± {quantity.uncertainty:.4f}"


def _scorer_table(scorer: Scorer) -> Table:
    """Tabulate the figures over all and by plane; those by charge and angle are in the file and the pictures."""
    table = Table()
    for column in ("", "", "signal", "rest", "AUC", f"efficiency > {SHOWN_CUT:g}", f"purity > {SHOWN_CUT:g}"):
        table.add_column(column, overflow="fold")
    for level, title in LEVELS.items():
        for (question, part), figure in figures_of_level(getattr(scorer, level)):
            if part != "all" and not part.startswith("plane "):
                continue
            if part == "all":
                table.add_section()
            name = f"{title}, {QUESTIONS[question]}" if part == "all" else ""
            table.add_row(name, part, str(figure.signal), str(figure.rest), *_numbers(figure))
    return table


def _numbers(figure: Figure) -> tuple[str, str, str]:
    if figure.auc.value is None:
        return quantity_text(figure.auc), "", ""
    (cut,) = (cut for cut in figure.cuts if cut.cut == SHOWN_CUT)
    return quantity_text(figure.auc), quantity_text(cut.efficiency), quantity_text(cut.purity)


def _difference_table(differences: Iterable[Difference], title: str) -> Table:
    table = Table(title=f"AUC, {title}", title_justify="left")
    for column in ("", "", "", "this", "other", "difference", ""):
        table.add_column(column)
    for row in sorted(differences, key=lambda row: (row.level, row.question, row.part)):
        if row.part != "all" and not row.part.startswith("plane "):
            continue
        spread = "" if row.uncertainty is None else f" ± {row.uncertainty:.4f}"
        table.add_row(
            LEVELS[row.level],
            QUESTIONS[row.question],
            row.part,
            f"{row.value:.4f}",
            f"{row.other:.4f}",
            f"{row.difference:+.4f}{spread}",
            "same events" if row.is_paired else "",
        )
    return table
