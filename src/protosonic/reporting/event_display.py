"""Pictures of events: charge, hits and, where there are scores, their class; wire against time."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from protosonic.errors import ConfigError
from protosonic.events.truth import HitTruth
from protosonic.publish import publish
from protosonic.reporting.event_views import busiest, hit_classes, views_of_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from protosonic.events.reader import ReaderOptions
    from protosonic.reporting.event_views import Choice, Colour, PlaneView

__all__ = [
    "BACKEND_COLOURS",
    "CHARGE_LIMIT",
    "CLASS_COLOURS",
    "draw_planes",
    "draw_source",
    "figure_bytes",
    "figure_class",
]

# Colours that remain apart with colour-vision deficiency (Okabe and Ito).
CLASS_COLOURS = {"track": "#0072B2", "em": "#D55E00", "none": "#999999", "michel": "#009E73"}
BACKEND_COLOURS = {"triton": "#0072B2", "onnxruntime": "#D55E00"}
CHARGE_LIMIT = 10.0
"""Charge that is drawn black, in ``recob::Wire`` units."""


class Axis(NamedTuple):
    """Factors from wires and ticks to what the axes show, and the names of these."""

    per_wire: float
    per_tick: float
    across: str
    along: str


def draw_source(
    source: Path,
    output: Path,
    choice: Choice,
    options: ReaderOptions,
    *,
    behind: Path | None = None,
    physical: bool = False,
) -> Path:
    """Draw an event of an input file or of a dataset to a PNG, SVG or HTML file.

    Parameters
    ----------
    source, choice, options, behind
        As those of :func:`protosonic.reporting.event_views.views_of_source`.
    output
        Its suffix says what is written; an HTML file holds all TPCs and is looked at in a browser.
    physical
        Axes in centimetres and microseconds.

    Raises
    ------
    DataError
        The file or the event cannot be used.
    ConfigError
        The kind of picture is not known, or matplotlib is missing.
    """
    from protosonic.reporting.viewer import ShownEvent, viewer_page

    suffix = output.suffix.lower().removeprefix(".")
    if suffix not in {"png", "svg", "html"}:
        raise ConfigError(
            "unknown kind of picture", where="--output", expected=".png, .svg or .html", found=output.name
        )
    views, title, note = views_of_source(source, choice, options, behind)
    if suffix == "html":
        picture = viewer_page([ShownEvent(title, views)], choice.colour, note, physical=physical).encode()
    else:
        figure = draw_planes(busiest(views), choice.colour, note, physical=physical)
        picture = figure_bytes(figure, suffix)
    with publish(output) as part:
        part.write_bytes(picture)
    return output


def draw_planes(
    views: Sequence[PlaneView], colour: Colour = "class", note: str | None = None, *, physical: bool = False
) -> Figure:
    """Draw planes below each other: time upwards, wires to the right, as LArSoft's event display does.

    A `note` stands above them.
    """
    matplotlib_figure = figure_class()
    figure = matplotlib_figure(figsize=(11, 3.6 * len(views)), layout="constrained")
    if note:
        figure.suptitle(note, fontsize=10, color="#B22222")
    for axes, view in zip(np.atleast_1d(figure.subplots(len(views), 1)), views, strict=True):
        _draw_plane(axes, view, colour, _axis(view, physical=physical))
    return figure


def _axis(view: PlaneView, *, physical: bool) -> Axis:
    if not physical:
        return Axis(1.0, 1.0, view.row_name, "time [ticks]")
    if view.detector is None:
        raise ConfigError(
            "lengths and times need the detector", where="--axes", hint="Name it with --detector"
        )
    pitch_cm = view.detector.pitch_mm[view.plane] / 10
    return Axis(pitch_cm, view.detector.tick_us, f"{view.row_name} × pitch [cm]", "time [µs]")


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """Render a figure; equal figures give equal bytes."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context({"svg.hashsalt": "protosonic"}):
        figure.savefig(buffer, format=kind, dpi=110, metadata=metadata)
    return buffer.getvalue()


def _draw_plane(axes: Axes, view: PlaneView, colour: Colour, axis: Axis) -> None:
    if view.charge is not None:
        n_wires, n_bins = view.charge.shape
        end = n_bins * view.ticks_per_bin * axis.per_tick
        axes.imshow(
            view.charge.T,
            origin="lower",
            aspect="auto",
            cmap="Greys",
            vmin=0,
            vmax=CHARGE_LIMIT,
            extent=(-0.5 * axis.per_wire, (n_wires - 0.5) * axis.per_wire, 0, end),
            interpolation="nearest",
        )
    place = (view.hits["wire"] * axis.per_wire, view.hits["peak_time"] * axis.per_tick)
    _draw_hits(axes, view.hits, place, colour)
    axes.set_title(view.title, fontsize=10, loc="left")
    axes.set_xlabel(axis.across)
    axes.set_ylabel(axis.along)


def _draw_hits(
    axes: Axes,
    hits: Mapping[str, NDArray[Any]],
    place: tuple[NDArray[np.floating], NDArray[np.floating]],
    colour: Colour,
) -> None:
    across, along = place
    style: dict[str, Any] = {"s": 1.5, "linewidths": 0, "rasterized": True}
    if colour == "truth" and "truth" not in hits:
        raise ConfigError(
            "the truth of these hits is not known",
            where="--colour",
            expected="an input file with truth, or a dataset with such a file as --input",
        )
    is_scored = "track" in hits
    if colour in HitTruth.LABELS and is_scored:
        # The highest scores last: they lie above the others.
        order = np.argsort(hits[colour], kind="stable")
        shown = axes.scatter(
            across[order], along[order], c=hits[colour][order], cmap="viridis", vmin=0, vmax=1, **style
        )
        axes.figure.colorbar(shown, ax=axes, label=f"score {colour}", pad=0.01)
        return
    if colour != "truth" and not is_scored:
        axes.scatter(across, along, c="#0072B2", **style)
        return
    label = hits[colour] if colour in {"truth", "backend"} else hit_classes(hits)
    for name, shade in (BACKEND_COLOURS if colour == "backend" else CLASS_COLOURS).items():
        here = label == name
        axes.scatter(across[here], along[here], c=shade, label=f"{name} ({here.sum()})", **style)
    axes.legend(loc="upper right", markerscale=5, fontsize=8, framealpha=0.9)


def figure_class() -> type[Figure]:
    """Give matplotlib's figure, without the state of pyplot.

    Raises
    ------
    ConfigError
        matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            "pictures need matplotlib", hint="Install it with: pip install 'protosonic[report]'"
        ) from error
    return Figure
