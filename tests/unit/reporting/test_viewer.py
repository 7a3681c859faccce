"""What the interactive pages hold: every hit, and nothing that could run."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest

from protosonic.detectors import load_detector
from protosonic.events.formats import open_events
from protosonic.events.reader import ReaderOptions
from protosonic.reporting.event_display import draw_source
from protosonic.reporting.event_views import Choice, PlaneView, hit_classes
from protosonic.reporting.viewer import ShownEvent, viewer_content, viewer_page
from protosonic.simulation.files import simulate_files

SCORES = ("track", "em", "none", "michel")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    [path] = simulate_files(folder, detector="protodune-sp", files=1, events=1, hits=300, seed=3)
    return path


def column(plane: dict, name: str) -> np.ndarray:
    stored = plane["columns"][name]
    return np.frombuffer(base64.b64decode(stored["data"]), np.dtype("<" + stored["kind"]))


def content_of(page: str) -> dict:
    [text] = re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def scored_view(n: int = 500) -> PlaneView:
    rng = np.random.default_rng(n)
    hits = {name: rng.random(n).astype(np.float32) for name in SCORES}
    hits |= {
        "wire": rng.integers(0, 480, n),
        "peak_time": rng.random(n).astype(np.float32) * 6000,
        "integral": rng.random(n).astype(np.float32) * 100,
        "backend": np.where(rng.random(n) < 0.5, "triton", "onnxruntime"),
    }
    return PlaneView(1, 2, hits, detector=load_detector("protodune-sp"))


def test_hits_are_kept_with_the_precision_that_is_stated():
    view = scored_view()
    [event] = viewer_content([ShownEvent("an event", [view])])["events"]
    [plane] = event["planes"]
    np.testing.assert_array_equal(column(plane, "wire"), view.hits["wire"])
    np.testing.assert_array_equal(column(plane, "peak_time"), view.hits["peak_time"])
    for name in SCORES:
        np.testing.assert_allclose(column(plane, name) / 65535, view.hits[name], atol=0.5 / 65535 + 1e-7)
    assert (plane["pitch_mm"], plane["tick_us"]) == (4.792, 0.5)


def test_classes_and_backends_are_numbers_with_names():
    view = scored_view()
    content = viewer_content([ShownEvent("an event", [view])])
    [plane] = content["events"][0]["planes"]
    for name, expected in (("class", hit_classes(view.hits)), ("backend", view.hits["backend"])):
        names = np.array([label["name"] for label in content["labels"][name]])
        np.testing.assert_array_equal(names[column(plane, name)], expected)
    assert content["colourings"] == ["class", *SCORES, "backend"]
    assert content["colour"] == "class"


def test_fifty_thousand_hits_take_some_twenty_five_bytes_each():
    page = viewer_page([ShownEvent("an event", [scored_view(50_000)])], "class")
    assert len(page) < 50_000 * 32 + 60_000


def test_page_of_an_input_file_holds_its_charge_and_truth(simulated, tmp_path):
    output = draw_source(simulated, tmp_path / "event.html", Choice(0), ReaderOptions())
    content = content_of(output.read_text(encoding="utf-8"))
    with open_events(simulated, ReaderOptions()) as file:
        [event] = file.read([0])
    planes = content["events"][0]["planes"]
    assert sum(plane["n"] for plane in planes) == len(event.hits)
    assert content["colourings"] == ["truth"]
    names = [label["name"] for label in content["labels"]["truth"]]
    found = np.concatenate([column(plane, "truth") for plane in planes])
    expected = [(event.truth.label == n).sum() for n in range(4)]
    np.testing.assert_array_equal(np.bincount(found, minlength=len(names))[:4], expected)
    for plane in planes:
        at, shade = column(plane, "charge_at"), column(plane, "charge_shade")
        assert len(at) == len(shade) > 0
        assert at.max() < plane["charge"]["rows"] * plane["charge"]["bins"]
        assert shade.min() > 0


def test_titles_cannot_bring_in_a_script():
    page = viewer_page([ShownEvent("</script><script>alert(1)</script>", [scored_view(5)])], "class")
    assert "<script>alert" not in page
    assert content_of(page)["events"][0]["title"] == "</script><script>alert(1)</script>"


def test_equal_events_give_equal_pages(simulated, tmp_path):
    pages = [
        draw_source(simulated, tmp_path / f"{n}.html", Choice(0), ReaderOptions()).read_bytes()
        for n in (0, 1)
    ]
    assert pages[0] == pages[1]
