"""The course of a campaign as charts that share one axis of time: hits/s, latency of requests, failed calls."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from protosonic.dataset.schema import BACKENDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from protosonic.reporting.course import Course, Scoring

__all__ = ["HEIGHT", "WIDTH", "Area", "Mark", "TimeLine", "time_line", "time_ticks"]

WIDTH, HEIGHT = 720.0, 130.0
SLICES = 120
UNITS = ((1.0, "s"), (60.0, "min"), (3600.0, "h"), (86400.0, "days"))
MOST_TICKS = 8
STEPS = (1, 2, 5, 10, 15, 20, 30, 50, 100, 200, 500, 1000)
CPU = "onnxruntime"


class Area(NamedTuple):
    """A source of scores: its share of the hits/s as the corners of a polygon, and the name of its colour."""

    name: str
    points: str
    colour: str


class Mark(NamedTuple):
    """Failed calls of a slice of time: where it begins and ends, and how strong its colour is."""

    x: float
    width: float
    opacity: float
    calls: int


@dataclass
class TimeLine:
    """What is drawn.

    Attributes
    ----------
    begin, seconds
        Unix time of its beginning, and its length.
    ticks
        Positions and labels of the axis.
    areas, most_hits_per_s
        Hits/s by source, above each other, and the upper end of that axis.
    latencies, most_ms
        By endpoint and percentile the points of a line, and the upper end of that axis in milliseconds.
    faults
        By class of failure its marks.
    """

    begin: float
    seconds: float
    ticks: list[tuple[float, str]]
    areas: list[Area] = field(default_factory=list)
    most_hits_per_s: float = 0.0
    latencies: list[Area] = field(default_factory=list)
    most_ms: float = 0.0
    faults: dict[str, list[Mark]] = field(default_factory=dict)


def time_line(course: Course) -> TimeLine | None:
    """Draw the course of a campaign; ``None`` where it left nothing behind or scored nothing."""
    if not course.scorings:
        return None
    begin, end = course.span
    seconds = max(end - begin, 1e-3)
    line = TimeLine(begin, seconds, time_ticks(seconds))
    edges = np.linspace(begin, begin + seconds, SLICES + 1)
    colours = _colours(course.scorings)
    _add_rates(line, course.scorings, edges, colours)
    _add_latencies(line, course.scorings, edges, colours)
    _add_faults(line, course.scorings, edges)
    return line


def time_ticks(seconds: float) -> list[tuple[float, str]]:
    """Give positions and labels of an axis of so many seconds, in a unit that suits them."""
    per_unit, unit = max((item for item in UNITS if item[0] <= max(seconds, 1.0)), key=lambda item: item[0])
    length = seconds / per_unit
    step = next((step for step in STEPS if length / step <= MOST_TICKS), length / MOST_TICKS)
    if length < MOST_TICKS / 2:
        step = 0.5
    values = np.arange(0.0, length + 1e-9, step)
    return [(float(value / length * WIDTH), f"{value:g} {unit}") for value in values]


def _colours(scorings: Sequence[Scoring]) -> dict[str, str]:
    sources = {source for scoring in scorings for source in (*scoring.hits, *scoring.latency_s)}
    endpoints = sorted(sources - set(BACKENDS))
    return {CPU: "cpu"} | {source: f"e{number % 4}" for number, source in enumerate(endpoints)}


def _add_rates(
    line: TimeLine, scorings: Sequence[Scoring], edges: NDArray[np.float64], colours: dict[str, str]
) -> None:
    """Spread the hits of each partition evenly over the time that it took."""
    cumulative: dict[str, NDArray[np.float64]] = defaultdict(lambda: np.zeros(len(edges)))
    for scoring in scorings:
        passed = np.clip((edges - scoring.begin) / max(scoring.seconds, 1e-6), 0, 1)
        for source, hits in scoring.hits.items():
            cumulative[source] += hits * passed
    width_s = edges[1] - edges[0]
    rates = {source: np.diff(hits) / width_s for source, hits in sorted(cumulative.items())}
    line.most_hits_per_s = float(max(sum(rates.values(), np.zeros(len(edges) - 1)).max(), 1e-9))
    below = np.zeros(len(edges) - 1)
    for source, rate in rates.items():
        above = below + rate
        corners = [*_steps(above, line.most_hits_per_s), *reversed(_steps(below, line.most_hits_per_s))]
        line.areas.append(Area(source, " ".join(corners), colours.get(source, "cpu")))
        below = above


def _steps(values: NDArray[np.float64], most: float) -> list[str]:
    return [
        f"{(i + side) * WIDTH / len(values):.1f},{HEIGHT * (1 - value / most):.1f}"
        for i, value in enumerate(values)
        for side in (0, 1)
    ]


def _add_latencies(
    line: TimeLine, scorings: Sequence[Scoring], edges: NDArray[np.float64], colours: dict[str, str]
) -> None:
    """Give of each slice of time the median of the partitions' medians, and the largest 95th percentile."""
    seen: dict[str, dict[int, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for scoring in scorings:
        middle = scoring.begin + scoring.seconds / 2
        at = min(max(int(np.searchsorted(edges, middle) - 1), 0), SLICES - 1)
        for endpoint, latency in scoring.latency_s.items():
            seen[endpoint][at].append((1e3 * latency["p50"], 1e3 * latency["p95"]))
    slowest = [ms for slices in seen.values() for pairs in slices.values() for pair in pairs for ms in pair]
    line.most_ms = max(slowest, default=0.0)
    for endpoint, slices in sorted(seen.items()):
        for name, values in (
            ("median", {at: median(p50 for p50, _ in pairs) for at, pairs in slices.items()}),
            ("p95", {at: max(p95 for _, p95 in pairs) for at, pairs in slices.items()}),
        ):
            points = [
                f"{(at + 0.5) * WIDTH / SLICES:.1f},{HEIGHT * (1 - value / line.most_ms):.1f}"
                for at, value in sorted(values.items())
            ]
            line.latencies.append(Area(f"{endpoint} {name}", " ".join(points), f"{colours[endpoint]} {name}"))


def _add_faults(line: TimeLine, scorings: Sequence[Scoring], edges: NDArray[np.float64]) -> None:
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for scoring in scorings:
        for when, _, failure in scoring.faults:
            at = int(np.searchsorted(edges, when) - 1)
            counts[failure][min(max(at, 0), SLICES - 1)] += 1
    width = WIDTH / SLICES
    for failure, slices in sorted(counts.items()):
        most = max(slices.values())
        line.faults[failure] = [
            Mark(round(at * width, 1), round(width, 1), round(0.35 + 0.65 * calls / most, 2), calls)
            for at, calls in sorted(slices.items())
        ]
