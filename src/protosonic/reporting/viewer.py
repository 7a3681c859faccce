"""Events in a browser: their hits as typed arrays in the page, drawn on canvases that are zoomed and moved.

A page needs nothing from elsewhere, and its content security policy lets only its own script run, so that no text of a
campaign can.
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from protosonic.events.truth import HitTruth
from protosonic.reporting.event_display import BACKEND_COLOURS, CHARGE_LIMIT, CLASS_COLOURS
from protosonic.reporting.event_views import UNKNOWN, hit_classes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from protosonic.reporting.event_views import Colour, PlaneView

__all__ = ["ShownEvent", "page_environment", "viewer_content", "viewer_page"]

LABELS: dict[str, dict[str, str]] = {
    "class": CLASS_COLOURS,
    "truth": CLASS_COLOURS | {UNKNOWN: "#B8A000"},
    "backend": BACKEND_COLOURS,
}
"""Columns that name a class of each hit → its values, with a colour each."""
UNLISTED = 255


class ShownEvent(NamedTuple):
    """An event with its title and all of its planes that are shown."""

    title: str
    views: Sequence[PlaneView]


def page_environment(scripts: Iterable[str]) -> Environment:
    """Give the templates, with ``policy()`` (only these scripts run), ``script(name)`` and ``style(name)``."""
    texts = {name: _text(name) for name in scripts}
    environment = Environment(loader=PackageLoader("protosonic.reporting"), autoescape=True, trim_blocks=True)
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in texts.values()
    )
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {hashes}"
    environment.globals |= {
        "policy": lambda: policy,
        # The texts are those of this package.
        "script": lambda name: Markup(texts[name]),  # noqa: S704
        "style": lambda name: Markup(_text(name)),  # noqa: S704
        "as_json": _as_json,
    }
    return environment


def viewer_page(
    events: Sequence[ShownEvent], colour: Colour, note: str | None = None, *, physical: bool = False
) -> str:
    """Make a page that shows events; `note` stands above them."""
    page = page_environment(["viewer.js"]).get_template("viewer.html")
    return page.render(
        title=events[0].title if len(events) == 1 else f"{len(events)} events",
        content=viewer_content(events, colour, physical=physical),
        note=note,
    )


def viewer_content(
    events: Sequence[ShownEvent], colour: Colour = "class", *, physical: bool = False
) -> dict[str, Any]:
    """Give what the script shows.

    Scores have 16 bits, and charge has 8, from 0 to what the pictures draw black; only charge that can be seen is kept.
    """
    planes = [[_plane(view) for view in event.views] for event in events]
    stored = [{"title": event.title, "planes": shown} for event, shown in zip(events, planes, strict=True)]
    columns = {name for shown in planes for plane in shown for name in plane["columns"]}
    scores = [name for name in HitTruth.LABELS if name in columns]
    colourings = [name for name in ("class", *scores, "backend", "truth") if name in columns] or ["hits"]
    return {
        "events": stored,
        "scores": scores,
        "labels": {
            name: [{"name": label, "colour": shade} for label, shade in labels.items()]
            for name, labels in LABELS.items()
            if name in columns
        },
        "colourings": colourings,
        "colour": colour if colour in colourings else colourings[0],
        "physical": physical,
    }


def _plane(view: PlaneView) -> dict[str, Any]:
    hits = view.hits
    columns: dict[str, NDArray[Any]] = {
        "wire": hits["wire"].astype("<u2"),
        "peak_time": hits["peak_time"].astype("<f4"),
    }
    if "integral" in hits:
        columns["integral"] = hits["integral"].astype("<f4")
    if "track" in hits:
        columns |= {name: np.rint(hits[name] * 65535).astype("<u2") for name in HitTruth.LABELS}
    named = {"class": hit_classes(hits)} if "track" in hits else {}
    named |= {name: hits[name] for name in ("truth", "backend") if name in hits}
    columns |= {name: _indices(values, LABELS[name]) for name, values in named.items()}
    stored: dict[str, Any] = {
        "title": view.title,
        "tpc": view.tpc,
        "plane": view.plane,
        "n": len(hits["wire"]),
        "row_name": view.row_name,
        "columns": {name: _stored(values) for name, values in columns.items()},
        "charge": None,
    }
    if view.detector is not None:
        stored |= {"pitch_mm": view.detector.pitch_mm[view.plane], "tick_us": view.detector.tick_us}
    if view.charge is not None:
        shade = np.rint(np.clip(view.charge / CHARGE_LIMIT, 0, 1) * 255).astype(np.uint8).ravel()
        at = np.flatnonzero(shade)
        stored["columns"] |= {
            "charge_at": _stored(at.astype("<u4")),
            "charge_shade": _stored(shade[at]),
        }
        stored["charge"] = {
            "rows": view.charge.shape[0],
            "bins": view.charge.shape[1],
            "ticks_per_bin": view.ticks_per_bin,
        }
    return stored


def _indices(values: NDArray[Any], names: Mapping[str, str]) -> NDArray[np.uint8]:
    index = np.full(len(values), UNLISTED, np.uint8)
    for number, name in enumerate(names):
        index[values == name] = number
    return index


def _stored(values: NDArray[Any]) -> dict[str, str]:
    return {"kind": values.dtype.str[1:], "data": base64.b64encode(values.tobytes()).decode()}


def _as_json(value: Any) -> Markup:
    """JSON that no text can end: it stands in a script element."""
    return Markup(json.dumps(value, separators=(",", ":")).replace("<", "\\u003c"))  # noqa: S704


def _text(name: str) -> str:
    return files("protosonic.reporting").joinpath("templates", name).read_text(encoding="utf-8")
