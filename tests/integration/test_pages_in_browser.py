"""The report and the interactive display in a real browser: nothing is missing, wrong or refused by it, and keys work."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import yaml
from playwright.sync_api import expect, sync_playwright

from support.campaign import protosonic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, ConsoleMessage, Page

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
COUNT = """canvas => {
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const found = new Set();
  for (let i = 0; i < data.length; i += 4) found.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
  return found.has(0x0072b2) ? found.size : 0;
}"""
"""The number of colours of a canvas on which tracks are drawn, else 0."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign with a file that cannot be read, and its pages."""
    folder = tmp_path_factory.mktemp("pages")
    protosonic("simulate", "data", "--files", "2", "--events", "2", "--hits", "2000", cwd=folder)
    [broken, _] = sorted((folder / "data").iterdir())
    shutil.copy(broken, folder / "data/broken.h5")
    with (folder / "data/broken.h5").open("r+b") as file:
        file.truncate(10_000)
    config = {
        "campaign": {"name": "pages"},
        "inputs": [{"path": "data/*.h5"}],
        "inference": {"policy": "endpoint-first", "endpoints": [{"url": "grpc://127.0.0.1:1"}]},
        "acceptance": {"max_quarantined_fraction": 0.5},
    }
    (folder / "pages.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    protosonic("run", "pages.yaml", "--workdir", ".", cwd=folder)
    protosonic("display", ".", "--input", str(broken), "--output", "event.html", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "these tests need the package chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page offline; at the end nothing may have gone wrong in it."""
    wrong: list[str] = []
    contexts = []

    def listen(message: ConsoleMessage) -> None:
        # These tests read canvases; the pages do not.
        if message.type in {"error", "warning"} and "Multiple readback" not in message.text:
            wrong.append(message.text)

    def opened(path: Path, viewport: dict[str, int], **options: object) -> Page:
        context = browser.new_context(viewport=viewport, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", listen)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request", lambda request: None if request.url.startswith("file:") else wrong.append(request.url)
        )
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_is_whole_on_every_screen(folder, open_page, viewport, scheme):
    page = open_page(folder / "results/pages/report.html", viewport, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert "broken.h5" in page.locator("#failed ~ .scroll").last.inner_text()
    canvases = page.locator("canvas")
    assert canvases.count() == 3
    for canvas in canvases.all():
        canvas.scroll_into_view_if_needed()
        assert canvas.evaluate(COUNT) > 1
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(21, 23, 26)")


def test_report_without_scripts_says_how_to_see_events(folder, open_page):
    page = open_page(folder / "results/pages/report.html", DESKTOP, java_script_enabled=False)
    assert "protosonic display" in page.locator(".needs-script").inner_text()
    assert page.locator("svg").count() >= 5


def test_configuration_is_copied(folder, open_page):
    page = open_page(
        folder / "results/pages/report.html", DESKTOP, permissions=["clipboard-read", "clipboard-write"]
    )
    page.get_by_role("button", name="Copy the configuration").click()
    page.get_by_text("Copied").wait_for()
    assert '"name": "pages"' in page.evaluate("navigator.clipboard.readText()")


def test_event_is_zoomed_and_moved_with_keys_and_mouse(folder, open_page):
    page = open_page(folder / "event.html", DESKTOP)
    canvas, caption = page.locator("canvas").first, page.locator("figcaption").first
    whole = canvas.get_attribute("aria-label")
    assert "in view" not in caption.inner_text()
    canvas.focus()
    for _ in range(4):
        page.keyboard.press("+")
    expect(canvas).not_to_have_attribute("aria-label", whole)
    assert "in view" in caption.inner_text()
    zoomed = canvas.get_attribute("aria-label")
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 150, steps=3)
    page.mouse.up()
    expect(canvas).not_to_have_attribute("aria-label", zoomed)
    page.keyboard.press("0")
    expect(canvas).to_have_attribute("aria-label", whole)


def test_classes_are_hidden_and_colours_and_axes_chosen(folder, open_page):
    page = open_page(folder / "event.html", DESKTOP)
    canvas = page.locator("canvas").first
    assert canvas.evaluate(COUNT) > 1
    track = page.get_by_role("button", name="track")
    track.click()
    assert track.get_attribute("aria-pressed") == "false"
    while canvas.evaluate(COUNT):  # it is drawn anew before the next frame
        page.wait_for_timeout(20)
    track.click()
    for colour in ("truth", "backend", "class"):
        page.get_by_label("Colour").select_option(colour)
        assert page.locator(".viewer-legend button").count() >= 1
    page.get_by_label("Colour").select_option("em")
    assert page.locator(".viewer-scale").is_visible()
    page.get_by_label("Axes").select_option("cm, µs")
    assert page.get_by_role("combobox", name="TPC").is_visible()


def test_hit_under_the_pointer_is_described(folder, open_page):
    page = open_page(folder / "event.html", DESKTOP)
    box = page.locator("canvas").first.bounding_box()
    told = page.locator(".viewer-told")
    for x in range(70, int(box["width"]) - 20, 20):
        for y in range(20, int(box["height"]) - 50, 20):
            page.mouse.move(box["x"] + x, box["y"] + y)
            if told.inner_text():
                break
        if told.inner_text():
            break
    words = told.inner_text()
    for word in ("wire ", " ticks", "integral ", "track 0.", "truth: ", "backend: onnxruntime"):
        assert word in words.replace("track 1.", "track 0.")


def test_report_prints_on_white_paper_without_controls(folder, open_page):
    page = open_page(folder / "results/pages/report.html", DESKTOP, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    assert not page.locator(".viewer-bar").is_visible()
    assert len(page.pdf()) > 10_000
