"""The report of a finished campaign: one HTML file that opens offline."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from protosonic.campaign.provenance import read_campaign
from protosonic.campaign.records import RunRecord, read_record
from protosonic.dataset.read import read_event
from protosonic.detectors import load_detector
from protosonic.detectors.geometry import PLANE_NAMES
from protosonic.publish import publish_text
from protosonic.reporting.course import read_course, stage_uses
from protosonic.reporting.distributions import BINS, SCORES, drifts, read_reference, score_histograms
from protosonic.reporting.event_views import Choice, views_of_hits
from protosonic.reporting.outcome import failed_files, limits, outcome, reason_groups
from protosonic.reporting.terminal import MOST_FALLBACKS, UNTRAINED_WARNING
from protosonic.reporting.timeline import HEIGHT, WIDTH, time_line
from protosonic.reporting.viewer import ShownEvent, page_environment, viewer_content

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from protosonic.campaign.layout import Layout
    from protosonic.reporting.course import Course
    from protosonic.reporting.distributions import Histograms

__all__ = ["write_report"]

MOST_ROWS = 200
MOST_SHOWN_HITS = 150_000
"""Hits of all events that are drawn: some 20 bytes each in the page."""
LEAST_SHARE = 1e-4
"""Lower end of the charts of scores, whose axis is logarithmic: most scores are near 0 or 1."""
PATCH_BYTES = 48 * 48 * 4


def write_report(layout: Layout, *, reference: Path | None = None, events: int = 3) -> Path:
    """Write the report.

    Parameters
    ----------
    layout
        The campaign.
    reference
        Dataset whose scores stand beside those of the campaign.
    events
        How many events are drawn at most: the first, the one with most hits, and others between them.

    Raises
    ------
    ConfigError
        The reference is no dataset.
    VerificationError
        The campaign is not finished.
    """
    campaign = read_campaign(layout)
    accounting = pq.read_table(layout.accounting).to_pylist()
    histograms = score_histograms(layout.results)
    other = None if reference is None else read_reference(reference)
    page = page_environment(["viewer.js", "report.js"]).get_template("report.html")
    text = page.render(
        campaign=campaign,
        totals=campaign["totals"],
        provenance=campaign["provenance"],
        untrained=UNTRAINED_WARNING if campaign["provenance"]["model"]["untrained"] else None,
        inputs=campaign["provenance"]["inputs"][:MOST_ROWS],
        n_inputs=len(campaign["provenance"]["inputs"]),
        fallbacks=campaign["fallbacks"][:MOST_FALLBACKS],
        n_fallbacks=len(campaign["fallbacks"]),
        failures=campaign["dispatch"]["failures"][:MOST_ROWS],
        n_failures=len(campaign["dispatch"]["failures"]),
        planes=PLANE_NAMES,
        **_what_ran(layout, campaign),
        **_accounting(campaign, accounting),
        **_course(campaign, read_course(layout)),
        **_scores(histograms, other, reference),
        viewer_events=_events(layout, campaign, accounting, events),
    )
    publish_text(layout.report, text)
    return layout.report


def _what_ran(layout: Layout, campaign: Mapping[str, Any]) -> dict[str, Any]:
    provenance = campaign["provenance"]
    run = read_record(layout.last_run, RunRecord) if layout.last_run.exists() else None
    return {
        "settings": json.dumps(provenance["settings"], indent=2),
        # The inputs have a table of their own: thousands of them would not be read here.
        "origin": json.dumps(
            {name: value for name, value in provenance.items() if name not in {"inputs", "settings"}},
            indent=2,
        ),
        "run": run,
        "command": None
        if run is None
        else f"protosonic run {run.config} --workdir {layout.workdir.resolve()}",
    }


def _accounting(campaign: Mapping[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    quarantined = [row for row in rows if row["state"] == "quarantined"]
    failed = failed_files(quarantined)
    return {
        "outcome": outcome(campaign["totals"], campaign["acceptance"]),
        "groups": reason_groups(quarantined),
        "failed_files": failed[:MOST_ROWS],
        "n_failed_files": len(failed),
        "n_files": len({row["file"] for row in rows}),
    }


def _course(campaign: Mapping[str, Any], course: Course) -> dict[str, Any]:
    line = time_line(course)
    endpoints = campaign["dispatch"]["endpoints"]
    answered = sum(endpoint["hits"] for endpoint in endpoints)
    sent = sum(endpoint["bytes_sent"] for endpoint in endpoints)
    return {
        "line": line,
        "began": line and f"{datetime.fromtimestamp(line.begin, UTC):%Y-%m-%d %H:%M:%S} UTC",
        "size": (WIDTH, HEIGHT),
        "stages": stage_uses(course.jobs),
        "limits": limits(campaign, course),
        "bytes_per_hit": sent / answered if answered else None,
        "patch_ratio": PATCH_BYTES * answered / sent if sent else None,
    }


def _scores(histograms: Histograms, other: Histograms | None, reference: Path | None) -> dict[str, Any]:
    return {
        "charts": _charts(histograms, other),
        "hits_by_plane": [int(histograms[plane, "track"].sum()) for plane in range(len(PLANE_NAMES))],
        "drifts": None if other is None else drifts(histograms, other),
        "reference": reference,
    }


def _charts(histograms: Histograms, other: Histograms | None) -> list[dict[str, Any]]:
    """Step lines of an SVG chart per class; heights are logarithms of the shares of the plane's hits."""
    return [
        {
            "name": name,
            "lines": [
                {"plane": plane, "which": which, "points": _steps(counts[plane, name])}
                for which, counts in (("reference", other), ("", histograms))
                if counts is not None
                for plane in range(len(PLANE_NAMES))
            ],
        }
        for name in SCORES
    ]


def _steps(counts: NDArray[np.int64]) -> str:
    share = np.maximum(counts / max(counts.sum(), 1), LEAST_SHARE)
    heights = 120 * np.log(share) / np.log(LEAST_SHARE)
    return " ".join(
        f"{(i + step) * 300 / BINS:.1f},{height:.1f}" for i, height in enumerate(heights) for step in (0, 1)
    )


def _events(
    layout: Layout, campaign: Mapping[str, Any], rows: list[dict[str, Any]], most: int
) -> dict[str, Any] | None:
    """Give what the viewer shows: events spread evenly from the first to the one with most hits."""
    with_hits = [row for row in rows if row["state"] == "done" and row["hits_done"]]
    if not with_hits or not most:
        return None
    by_hits = sorted(with_hits, key=lambda row: -row["hits_done"])
    places = [round(n * (len(by_hits) - 1) / max(most - 1, 1)) for n in range(most)]
    chosen = [by_hits[place] for place in dict.fromkeys(places)]
    detectors = {entry["file_id"]: entry["detector"] for entry in campaign["provenance"]["inputs"]}
    shown: list[ShownEvent] = []
    n_hits = 0
    for row in chosen:
        n_hits += row["hits_done"]
        if n_hits > MOST_SHOWN_HITS and shown:
            break
        numbers = (row["run"], row["subrun"], row["event"])
        name = detectors.get(row["file_id"])
        views = views_of_hits(
            read_event(layout.results, 0, numbers), Choice(), load_detector(name) if name else None
        )
        shown.append(
            ShownEvent("run {} subrun {} event {}".format(*numbers) + f" ({row['hits_done']:,} hits)", views)
        )
    return viewer_content(shown)
