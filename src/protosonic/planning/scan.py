"""Measured scans of the number of clients: reading, fitting a scenario to one, and comparing it with others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import least_squares

from protosonic.errors import ConfigError
from protosonic.planning.forecast import forecasts, knee

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from protosonic.planning.scenario import Scenario

__all__ = ["KNEE_LEVEL", "Comparison", "Scan", "compare", "fit", "read_scan"]

KNEE_LEVEL = 1.5
"""The knee of a curve is where a step takes this many times as long as with few clients."""

START_RATES = (0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)


@dataclass(frozen=True)
class Scan:
    """Mean times against the number of clients.

    Attributes
    ----------
    clients
        Numbers of clients [n], rising.
    event_s, step_s
        Mean seconds of an event in all and of its classification [n], float64.
    """

    clients: NDArray[np.float64]
    event_s: NDArray[np.float64]
    step_s: NDArray[np.float64]

    @property
    def other_s(self) -> float:
        """Mean seconds of an event beside its classification."""
        return float((self.event_s - self.step_s).mean())

    @property
    def level_s(self) -> float:
        """Seconds of a step with few clients."""
        return _level(self.step_s)

    @property
    def knee(self) -> float | None:
        """Where the step takes 1.5 times as long as with few clients for good, between measurements by interpolation."""
        return _crossing(self.clients, self.step_s, KNEE_LEVEL * self.level_s)


@dataclass(frozen=True)
class Comparison:
    """Prediction against measurement.

    Attributes
    ----------
    step_s
        Predicted seconds of the step at the clients of the scan [n], float64.
    below_knee, everywhere
        Mean absolute error of the step's time, relative to the measurement: up to the measured knee, and of all points.
    knee, measured_knee
        Clients where the step takes 1.5 times as long as with few; ``None`` where a scan ends before.
    """

    step_s: NDArray[np.float64]
    below_knee: float
    everywhere: float
    knee: float | None
    measured_knee: float | None

    @property
    def knee_error(self) -> float | None:
        """Relative error of the knee."""
        if self.knee is None or self.measured_knee is None:
            return None
        return self.knee / self.measured_knee - 1


def read_scan(path: Path) -> Scan:
    """Read a table: clients, seconds of an event, its spread, seconds of the classification; more columns are ignored.

    This is the form of the measurements behind arXiv:2009.04509 in the repository nuSONIC.

    Raises
    ------
    ConfigError
        It is no such table.
    """
    try:
        with path.open(encoding="utf-8") as file:
            rows = [[float(word) for word in line.split()] for line in file if line.strip()]
        table = np.array([(row[0], row[1], row[3]) for row in rows]).reshape(-1, 3)
    except (OSError, ValueError, IndexError) as error:
        raise ConfigError(
            "not a scan of clients",
            file=path,
            expected="lines of numbers: clients, event s, its spread, classification s",
            found=str(error),
        ) from error
    order = np.argsort(table[:, 0])
    is_sound = len(table) >= 2 and np.isfinite(table).all() and (table > 0).all()
    if not is_sound or (table[:, 1] <= table[:, 2]).any():
        raise ConfigError(
            "not a scan of clients",
            file=path,
            expected="two lines or more, of positive numbers, the event longer than its classification",
        )
    clients, event_s, step_s = table[order].T
    return Scan(clients, event_s, step_s)


def fit(scenario: Scenario, scan: Scan) -> Scenario:
    """Fit what no one tells: the seconds of preparation, and the hits/s of a GPU; the rest of the scenario is known.

    The time beside the classification is the mean of the scan.
    """

    def fitted(values: NDArray[np.float64]) -> Scenario:
        prepare_s, hits_per_s = np.exp(values).tolist()
        return scenario.with_changes(
            {
                "workload.other_s": scan.other_s,
                "workload.prepare_s": prepare_s,
                "server.hits_per_s": hits_per_s,
            }
        )

    def residuals(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.log(_steps(fitted(values), scan.clients) / scan.step_s)

    # One event may take half as long again as another: single points must not decide.
    # The knee makes it a function with several minima, so several rates are tried, from what was served at least.
    served = float((scan.clients / scan.event_s).max()) * scenario.workload.hits_per_event
    starts = [np.log([scan.level_s / 2, factor * served / scenario.server.gpus]) for factor in START_RATES]
    found = [least_squares(residuals, start, loss="soft_l1", f_scale=0.1) for start in starts]
    return fitted(min(found, key=lambda result: result.cost).x)


def compare(scenario: Scenario, scan: Scan, step_s: Callable[[float], float] | None = None) -> Comparison:
    """Compare a prediction with a scan.

    Parameters
    ----------
    scenario, scan
        The two.
    step_s
        Gives the seconds of a step of a number of clients; by default the analytic model.
    """
    if step_s is None:
        predicted = _steps(scenario, scan.clients)
        grid = np.linspace(1, 3 * max(knee(scenario), 1), 3000)
        curve = _steps(scenario, grid)
    else:
        grid = scan.clients
        curve = predicted = np.array([step_s(n) for n in scan.clients.tolist()])
    error = np.abs(predicted / scan.step_s - 1)
    measured = scan.knee
    is_below = scan.clients <= (np.inf if measured is None else measured)
    return Comparison(
        step_s=predicted,
        below_knee=float(error[is_below].mean()),
        everywhere=float(error.mean()),
        knee=_crossing(grid, curve, KNEE_LEVEL * _level(predicted)),
        measured_knee=measured,
    )


def _level(step_s: NDArray[np.float64]) -> float:
    """Give the median of the lower half of a scan."""
    return float(np.median(step_s[: max(len(step_s) // 2, 1)]))


def _steps(scenario: Scenario, clients: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([point.step_s for point in forecasts(scenario, clients.tolist())])


def _crossing(clients: NDArray[np.float64], step_s: NDArray[np.float64], level: float) -> float | None:
    below = np.flatnonzero(step_s < level)
    if not len(below) or below[-1] + 1 == len(step_s):
        return None
    last = int(below[-1])
    return float(np.interp(level, step_s[last : last + 2], clients[last : last + 2]))
