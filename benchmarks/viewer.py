"""The interactive display beside Plotly, in the same headless Chromium: size of the page, time to open, frames while zooming.

Both show the same three planes of one event, coloured by class; Plotly with ``scattergl``, which is made for many points. Without
a graphics card its WebGL runs on the CPU, as in many virtual machines; on a laptop it is faster than here. Needs Chromium and
the packages playwright and plotly.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from common import report
from protosonic.detectors import load_detector
from protosonic.reporting.event_display import CLASS_COLOURS
from protosonic.reporting.event_views import PlaneView, hit_classes
from protosonic.reporting.viewer import ShownEvent, viewer_page

SCORES = ("track", "em", "none", "michel")
FRAMES = 40
DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
ZOOM_OURS = f"""async factor => {{
  for (const canvas of document.querySelectorAll("canvas")) canvas.dispatchEvent(new KeyboardEvent("keydown", {{ key: factor < 1 ? "+" : "-" }}));
  await {DRAWN};
}}"""
ZOOM_PLOTLY = f"""async factor => {{
  for (const plot of document.querySelectorAll(".js-plotly-plot")) {{
    const [low, high] = plot.layout.xaxis.range, middle = (low + high) / 2, half = (high - low) / 2 * factor;
    await Plotly.relayout(plot, {{ "xaxis.range": [middle - half, middle + half] }});
  }}
  await {DRAWN};
}}"""


def planes(hits: int) -> list[PlaneView]:
    """Hits on straight tracks and in clouds, as an event has them."""
    rng = np.random.default_rng(1)
    views = []
    for plane in range(3):
        n = hits // 3
        wire = rng.integers(0, 480, n)
        time_of = np.clip(rng.choice(np.arange(20), n) * 300 + wire * rng.choice([1, 2, 3], n), 0, 5999)
        columns: dict[str, Any] = {name: rng.random(n).astype(np.float32) for name in SCORES}
        columns |= {"wire": wire, "peak_time": time_of.astype(np.float32)}
        views.append(PlaneView(1, plane, columns, detector=load_detector("protodune-sp")))
    return views


def plotly_page(views: list[PlaneView]) -> str:
    """Make a page as one would with Plotly: its script in it, a plot for each plane, a trace for each class."""
    import plotly.graph_objects as go

    parts = []
    for number, view in enumerate(views):
        classes, hits = hit_classes(view.hits), view.hits
        figure = go.Figure(
            [
                go.Scattergl(
                    x=hits["wire"][classes == name],
                    y=hits["peak_time"][classes == name],
                    customdata=np.stack([hits[score][classes == name] for score in SCORES], axis=1),
                    mode="markers",
                    marker={"size": 2, "color": colour},
                    name=name,
                )
                for name, colour in CLASS_COLOURS.items()
            ]
        )
        parts.append(figure.to_html(full_html=False, include_plotlyjs=number == 0))
    return "<!doctype html><meta charset=utf-8>" + "".join(parts)


def measure(page: Any, path: Path, zoom: str, ready: str) -> dict[str, float]:
    """Open a page, and zoom in and out; each frame is drawn before the next is asked for."""
    begin = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_selector(ready)
    page.evaluate(DRAWN)
    opened_s = time.perf_counter() - begin
    frames = []
    for number in range(FRAMES):
        before = time.perf_counter()
        page.evaluate(zoom, 0.8 if number % 20 < 10 else 1.25)
        frames.append(time.perf_counter() - before)
    return {
        "MB": path.stat().st_size / 1e6,
        "opened, s": opened_s,
        "frame, ms": 1e3 * statistics.median(frames),
        "slowest, ms": 1e3 * max(frames),
    }


def main() -> None:
    """Measure both."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hits", type=int, default=50_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    views = planes(arguments.hits)
    measured: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        ours, theirs = Path(folder) / "ours.html", Path(folder) / "plotly.html"
        ours.write_text(viewer_page([ShownEvent("event", views)], "class"), encoding="utf-8")
        theirs.write_text(plotly_page(views), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for path, zoom, ready in (
            (ours, ZOOM_OURS, "canvas"),
            (theirs, ZOOM_PLOTLY, ".js-plotly-plot .gl-container canvas"),
        ):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            measured.append(measure(page, path, zoom, ready))
            page.close()
        browser.close()
    measured.append({name: measured[1][name] / value for name, value in measured[0].items()})
    names = ("protosonic", "plotly", "plotly ÷ protosonic")
    rows = [{"display": name} | figures for name, figures in zip(names, measured, strict=True)]
    report(f"An event of {arguments.hits:,} hits in Chromium", rows, arguments.json)


if __name__ == "__main__":
    main()
