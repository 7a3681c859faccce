"""The report of a finished campaign: one HTML file that opens offline."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from jinja2 import Environment, PackageLoader

from protosonic.campaign.provenance import read_campaign
from protosonic.dataset.read import iterate_hits, read_event
from protosonic.detectors.geometry import PLANE_NAMES
from protosonic.publish import publish_text
from protosonic.reporting.terminal import MOST_FALLBACKS, UNTRAINED_WARNING

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from protosonic.campaign.layout import Layout

__all__ = ["score_histograms", "write_report"]

SCORES = ("track", "em", "none", "michel")
BINS = 40
MOST_ROWS = 200


def write_report(layout: Layout) -> Path:
    """Write the report; pictures need matplotlib and are left out with a note where it is missing."""
    campaign = read_campaign(layout)
    quarantined = [
        row for row in pq.read_table(layout.accounting).to_pylist() if row["state"] == "quarantined"
    ]
    histograms = score_histograms(layout.results)
    environment = Environment(loader=PackageLoader("protosonic.reporting"), autoescape=True, trim_blocks=True)
    page = environment.get_template("report.html").render(
        campaign=campaign,
        totals=campaign["totals"],
        provenance=campaign["provenance"],
        settings=json.dumps(campaign["provenance"]["settings"], indent=2),
        untrained=UNTRAINED_WARNING if campaign["provenance"]["model"]["untrained"] else None,
        quarantined=quarantined[:MOST_ROWS],
        n_quarantined=len(quarantined),
        inputs=campaign["provenance"]["inputs"][:MOST_ROWS],
        n_inputs=len(campaign["provenance"]["inputs"]),
        charts=_charts(histograms),
        planes=PLANE_NAMES,
        hits_by_plane=[int(histograms[plane, "track"].sum()) for plane in range(len(PLANE_NAMES))],
        picture=_picture(layout),
        fallbacks=campaign["fallbacks"][:MOST_FALLBACKS],
        n_fallbacks=len(campaign["fallbacks"]),
        failures=campaign["dispatch"]["failures"][:MOST_ROWS],
        n_failures=len(campaign["dispatch"]["failures"]),
    )
    publish_text(layout.report, page)
    return layout.report


def score_histograms(results: Path) -> dict[tuple[int, str], NDArray[np.int64]]:
    """Count scores in 40 bins from 0 to 1, by plane and class."""
    histograms = {
        (plane, name): np.zeros(BINS, np.int64) for plane in range(len(PLANE_NAMES)) for name in SCORES
    }
    for batch in iterate_hits(results, ["plane", *SCORES]):
        plane = batch["plane"].to_numpy()
        for name in SCORES:
            bins = np.clip((batch[name].to_numpy() * BINS).astype(np.int64), 0, BINS - 1)
            for number in range(len(PLANE_NAMES)):
                histograms[number, name] += np.bincount(bins[plane == number], minlength=BINS)
    return histograms


def _charts(histograms: dict[tuple[int, str], NDArray[np.int64]]) -> list[dict[str, Any]]:
    """Step lines of an SVG chart per class; heights are shares of the plane's hits."""
    charts = []
    for name in SCORES:
        shares = []
        for plane in range(len(PLANE_NAMES)):
            counts = histograms[plane, name]
            shares.append(counts / max(counts.sum(), 1))
        top = max(*(float(share.max()) for share in shares), 1e-9)
        lines = [
            " ".join(
                f"{(i + step) * 300 / BINS:.1f},{120 * (1 - share[i] / top):.1f}"
                for i in range(BINS)
                for step in (0, 1)
            )
            for share in shares
        ]
        charts.append({"name": name, "lines": lines, "top": f"{top:.1%}"})
    return charts


def _picture(layout: Layout) -> dict[str, str] | None:
    """Draw the first event with hits; ``None`` where there is none or matplotlib is missing."""
    from protosonic.errors import ConfigError
    from protosonic.reporting.event_display import busiest_planes, draw_planes, figure_bytes

    hits = read_event(layout.results, 0)
    if not hits:
        return None
    try:
        png = figure_bytes(draw_planes(busiest_planes(hits)), "png")
    except ConfigError as error:
        return {"note": str(error)}
    numbers = "run {} subrun {} event {}".format(*(hits[name][0] for name in ("run", "subrun", "event")))
    return {"title": numbers, "data": base64.b64encode(png).decode()}
