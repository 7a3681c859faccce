"""The planner against the measurements behind arXiv:2009.04509: fitted to one scan, it predicts the others.

Prints a table for every choice of the fitted scan, with the analytic model; for one choice the simulation and the published
model beside it. The files are those of the repository nuSONIC.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common import report
from protosonic.planning.forecast import forecasts, sonic_time
from protosonic.planning.published import SCANS, known_scenario
from protosonic.planning.scan import Comparison, Scan, compare, fit, read_scan
from protosonic.planning.simulation import simulate
from protosonic.reporting.event_display import figure_bytes, figure_class

if TYPE_CHECKING:
    from protosonic.planning.scenario import Scenario

COLUMNS = 3
SMALL_TRAVEL_S = 2.6
SMALL_GPU_S = 2.5


def published_step(name: str, clients: float) -> float:
    """Evaluate the published model with the constants for the way a scan was taken."""
    scan = SCANS[name]
    is_small = scan.hits_per_request < 1000
    constants = {"t_travel": SMALL_TRAVEL_S} if is_small else {}
    if is_small and not scan.dynamic_batching:
        constants["t_gpu"] = SMALL_GPU_S
    return sonic_time(clients, scan.gpus, **constants)[1]


def simulated_step(scenario: Scenario, clients: float) -> float:
    return simulate(scenario, int(clients), events=3).step_s


def row(fitted: str, model: str, name: str, found: Comparison) -> dict[str, Any]:
    error = found.knee_error
    return {
        "fitted": fitted,
        "model": model,
        "scan": name,
        "error below knee": found.below_knee,
        "error of all points": found.everywhere,
        "knee": found.knee and round(found.knee),
        "measured knee": found.measured_knee and round(found.measured_knee),
        "error of knee": error if error is None else round(error, 3),
    }


def draw(scans: dict[str, Scan], scenarios: dict[str, Scenario], fitted: str, output: Path) -> None:
    """Draw all scans, predicted and measured."""
    figure = figure_class()(figsize=(11, 6), layout="constrained")
    axes = figure.subplots(2, COLUMNS).ravel()
    for place, (name, scan) in zip(axes, scans.items(), strict=False):
        about = SCANS[name]
        grid = np.linspace(1, scan.clients[-1], 60)
        place.plot(scan.clients, scan.step_s, "o", color="#0072B2", label="measured")
        line = [point.step_s for point in forecasts(scenarios[name], grid.tolist())]
        place.plot(grid, line, color="#D55E00", label="fitted" if name == fitted else "predicted")
        batching = "dynamic batching" if about.dynamic_batching else "no dynamic batching"
        place.set_title(f"{about.gpus} GPU, {about.hits_per_request:,} patches, {batching}", fontsize=9)
        place.set_xlabel("clients")
        place.set_ylabel("EmTrackMichelId [s]")
        place.set_ylim(bottom=0)
        place.grid(alpha=0.3)
        place.legend(fontsize=8)
    for place in axes[len(scans) :]:
        place.set_axis_off()
    output.write_bytes(figure_bytes(figure, "svg"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder above nusonic-scaling")
    parser.add_argument("--shown", default="gke4", choices=SCANS, help="fitted for picture and simulation")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    scans = {name: read_scan(options.folder / SCANS[name].path) for name in SCANS}
    rows = []
    for fitted in SCANS:
        found = fit(known_scenario(fitted), scans[fitted])
        print(
            f"{fitted}: prepare {found.workload.prepare_s:.1f} s, {found.server.hits_per_s:,.0f} hits/s a GPU"
        )
        scenarios = {name: known_scenario(name, found) for name in SCANS}
        rows += [row(fitted, "analytic", name, compare(scenarios[name], scans[name])) for name in SCANS]
        if fitted != options.shown:
            continue
        if options.picture:
            draw(scans, scenarios, fitted, options.picture)
        for name, scenario in scenarios.items():
            result = compare(scenario, scans[name], partial(simulated_step, scenario))
            rows.append(row(fitted, "simulated", name, result))
    for name in SCANS:
        result = compare(known_scenario(name), scans[name], partial(published_step, name))
        rows.append(row("(none)", "published", name, result))
    report("Planner against the scans of arXiv:2009.04509", rows, options.json)


if __name__ == "__main__":
    main()
