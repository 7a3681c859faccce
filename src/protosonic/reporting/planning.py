"""A capacity plan on the terminal and as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from protosonic.errors import ConfigError
from protosonic.planning.forecast import CLIENTS
from protosonic.publish import publish
from protosonic.reporting.event_display import figure_bytes, figure_class

if TYPE_CHECKING:
    from pathlib import Path

    from protosonic.planning.plan import CapacityPlan

__all__ = ["draw_plan", "print_plan"]

COLOUR, KNEE_COLOUR = "#0072B2", "#D55E00"
MOST_CHANGES = 5
AT_THE_KNEE = 0.75
"""Of the throughput of the busiest resource: from here on it is named as what limits next."""
LIMITS = {
    CLIENTS: "there are few clients, and nothing else is busy all the time",
    "gpus": "the GPUs compute all the time",
    "ingress": "the link into the servers is full",
    "site links": "the links out of the sites are full",
}


def print_plan(plan: CapacityPlan) -> None:
    """Print a plan as tables and sentences."""
    console = Console(highlight=False)
    at, server = plan.forecast, plan.scenario.server
    table = Table(show_header=False, box=None, pad_edge=False)
    rows = [
        (
            "clients",
            f"{at.clients:,.0f}" + ("" if plan.scenario.clients.number else " (as many as the knee)"),
        ),
        (
            "throughput",
            f"{_number(at.events_per_s)} events/s, {at.events_per_s * plan.scenario.workload.hits_per_event:,.0f} hits/s",
        ),
        (
            "an event takes",
            f"{_number(at.event_s)} s, {_number(at.step_s)} s of them to classify ({_number(plan.alone_s)} s alone)",
        ),
        ("knee", f"{plan.knee:,.0f} clients, {plan.clients_per_gpu:,.0f} for each of {server.gpus} GPUs"),
        (
            "each site sends",
            f"{_number(plan.site_gbps)} Gb/s; {_number(plan.received_gbps)} Gb/s come back to all",
        ),
        (
            "the campaign",
            f"{_number(plan.wall_hours)} hours, {_number(plan.core_hours)} core-hours, {_number(plan.gpu_hours)} GPU-hours"
            + _price(plan.cost),
        ),
        (
            "without endpoint",
            f"{_number(plan.cpu_only.wall_hours)} hours, {_number(plan.cpu_only.core_hours)} core-hours"
            + _price(plan.cpu_only.cost),
        ),
    ]
    for row in rows:
        table.add_row(*row)
    console.print(table)
    found = Table("resource", "events/s at most", "busy")
    for name, capacity in plan.capacities.items():
        found.add_row(name, f"{_number(capacity)}", f"{at.events_per_s / capacity:.0%}")
    console.print(found)
    if plan.simulated is not None:
        seen = plan.simulated
        console.print(
            f"simulated: {_number(seen.events_per_s)} events/s, {_number(seen.step_s)} s to classify an event, GPUs busy "
            f"{seen.gpu_busy:.0%}, {seen.hits_per_call:,.0f} hits a call, {seen.refused:.1%} of the requests refused",
            soft_wrap=True,
        )
    console.print(f"What limits: {_limit(plan)}.", soft_wrap=True)
    for change in plan.changes[:MOST_CHANGES]:
        console.print(
            f"What helps: {change.what}: {change.gain:.2f} times the throughput; knee at {change.knee:,.0f} clients",
            soft_wrap=True,
        )


def draw_plan(plan: CapacityPlan, output: Path) -> None:
    """Draw time and throughput against the number of clients to a PNG or SVG file.

    Raises
    ------
    ConfigError
        The kind of picture is not known, or matplotlib is missing.
    """
    kind = output.suffix.lower().removeprefix(".")
    if kind not in {"png", "svg"}:
        raise ConfigError(
            "unknown kind of picture", where="--output", expected=".png or .svg", found=output.name
        )
    curve = plan.curve
    clients = [point.clients for point in curve]
    figure = figure_class()(figsize=(10, 4), layout="constrained")
    times, rates = figure.subplots(1, 2)
    times.plot(clients, [point.step_s for point in curve], color=COLOUR)
    times.set_ylabel("classification of an event [s]")
    rates.plot(clients, [point.events_per_s for point in curve], color=COLOUR)
    rates.set_ylabel("throughput [events/s]")
    for axes, seen in ((times, "step_s"), (rates, "events_per_s")):
        axes.axvline(plan.knee, color=KNEE_COLOUR, linestyle="--", label=f"knee: {plan.knee:,.0f} clients")
        axes.plot(plan.forecast.clients, getattr(plan.forecast, seen), "o", color=COLOUR, label="planned")
        if plan.simulated is not None:
            axes.plot(
                plan.simulated.clients, getattr(plan.simulated, seen), "x", color="black", label="simulated"
            )
        axes.set_xlabel("clients")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(loc="best", fontsize=8)
    picture = figure_bytes(figure, kind)
    with publish(output) as part:
        part.write_bytes(picture)


def _number(value: float) -> str:
    """Write three or four digits, and never as a power of ten."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value < 1 else f"{value:.4g}"


def _limit(plan: CapacityPlan) -> str:
    """Say what limits; at the knee both sides do."""
    at = plan.forecast
    first = min(plan.capacities, key=lambda name: plan.capacities[name])
    if at.limit == CLIENTS and at.events_per_s >= AT_THE_KNEE * plan.capacities[first]:
        return f"nothing alone: clients and {first} are in balance, and more clients would wait"
    return LIMITS[at.limit]


def _price(cost: float | None) -> str:
    return "" if cost is None else f", cost {cost:,.0f}"
