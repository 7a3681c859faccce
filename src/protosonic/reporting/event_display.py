"""Pictures of events: charge, hits and, where there are scores, their class; wire against time."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from protosonic.campaign.layout import Layout
from protosonic.campaign.provenance import read_campaign
from protosonic.dataset.read import read_event
from protosonic.detectors.geometry import PLANE_NAMES
from protosonic.errors import ConfigError, DataError
from protosonic.evaluation.figures import predicted_label
from protosonic.events.truth import HitTruth
from protosonic.publish import publish
from protosonic.reporting.terminal import UNTRAINED_WARNING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from protosonic.events.model import Event
    from protosonic.events.reader import ReaderOptions

__all__ = [
    "CLASS_COLOURS",
    "Choice",
    "Colour",
    "PlaneView",
    "busiest_planes",
    "draw_planes",
    "draw_source",
    "event_numbers",
    "figure_bytes",
    "figure_class",
]

# Colours that remain apart with colour-vision deficiency (Okabe and Ito).
CLASS_COLOURS = {"track": "#0072B2", "em": "#D55E00", "none": "#999999", "michel": "#009E73"}
_CHARGE_LIMIT = 10.0
_BACKEND_COLOURS = {"triton": "#0072B2", "onnxruntime": "#D55E00"}

Colour = Literal["class", "track", "em", "none", "michel", "backend"]


class Choice(NamedTuple):
    """What of a source is drawn, and how.

    Attributes
    ----------
    entry
        Position of the event in the file, or in the dataset among events with hits.
    event
        Its run, subrun and event number; wins over `entry`.
    tpc
        The TPC; by default the one with most hits, for each plane.
    planes
        Numbers of the planes.
    colour
        What colours hits that are scored: ``class``, a score, or ``backend``.
    """

    entry: int = 0
    event: tuple[int, int, int] | None = None
    tpc: int | None = None
    planes: tuple[int, ...] = (0, 1, 2)
    colour: Colour = "class"

    def __str__(self) -> str:
        if self.event is None:
            return f"entry {self.entry}"
        return "run {} subrun {} event {}".format(*self.event)


class PlaneView(NamedTuple):
    """One plane to draw.

    Attributes
    ----------
    title
        What it shows.
    hits
        Columns of its hits: at least ``wire`` and ``peak_time``, and the scores where there are any.
    row_name
        ``wire`` or ``channel``.
    charge
        Image [wires, bins] of charge in ``recob::Wire`` units, or ``None``.
    ticks_per_bin
        Width of a bin of the image.
    colour
        As that of :class:`Choice`.
    """

    title: str
    hits: Mapping[str, NDArray[Any]]
    row_name: str = "wire"
    charge: NDArray[np.float32] | None = None
    ticks_per_bin: int = 6
    colour: Colour = "class"


def event_numbers(text: str) -> tuple[int, int, int]:
    """Read run, subrun and event number from ``RUN:SUBRUN:EVENT``.

    Raises
    ------
    ConfigError
        It is something else.
    """
    try:
        run, subrun, event = (int(word) for word in text.split(":"))
    except ValueError as error:
        raise ConfigError(
            "no event", where="--event", expected="RUN:SUBRUN:EVENT, as 27409:0:1", found=text
        ) from error
    return run, subrun, event


def draw_source(source: Path, output: Path, choice: Choice, options: ReaderOptions) -> Path:
    """Draw an event of an input file, or of a finished campaign, to a PNG or SVG file.

    Raises
    ------
    DataError
        The file or the event cannot be used.
    ConfigError
        The kind of picture is not known, or matplotlib is missing.
    """
    suffix = output.suffix.lower().removeprefix(".")
    if suffix not in {"png", "svg"}:
        raise ConfigError(
            "unknown kind of picture", where="--output", expected=".png or .svg", found=output.name
        )
    note = None
    if source.is_dir():
        layout = Layout.of_workdir(source)
        hits = read_event(layout.results, choice.entry, choice.event)
        views = [view._replace(colour=choice.colour) for view in busiest_planes(hits, choice)] if hits else []
        if read_campaign(layout)["provenance"]["model"]["untrained"]:
            note = UNTRAINED_WARNING
    else:
        views = _views_of_file(source, choice, options)
    if not views:
        raise DataError("the event has nothing to draw", code="empty", file=source, where=_place(choice))
    picture = figure_bytes(draw_planes(views, note), suffix)
    with publish(output) as part:
        part.write_bytes(picture)
    return output


def draw_planes(views: Sequence[PlaneView], note: str | None = None) -> Figure:
    """Draw planes below each other: time upwards, wires to the right, as LArSoft's event display does.

    A `note` stands above them.
    """
    matplotlib_figure = figure_class()
    figure = matplotlib_figure(figsize=(11, 3.6 * len(views)), layout="constrained")
    if note:
        figure.suptitle(note, fontsize=10, color="#B22222")
    for axes, view in zip(np.atleast_1d(figure.subplots(len(views), 1)), views, strict=True):
        _draw_plane(axes, view)
    return figure


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """Render a figure; equal figures give equal bytes."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context({"svg.hashsalt": "protosonic"}):
        figure.savefig(buffer, format=kind, dpi=110, metadata=metadata)
    return buffer.getvalue()


def busiest_planes(hits: Mapping[str, NDArray[Any]], choice: Choice | None = None) -> list[PlaneView]:
    """Choose the planes with most hits of an event, one per plane number that is wanted, of one TPC where that is."""
    choice = choice or Choice()
    keys = np.stack([hits["tpc"].astype(np.int64), hits["plane"].astype(np.int64)], axis=1)
    found, counts = np.unique(keys, axis=0, return_counts=True)
    chosen: dict[int, tuple[int, int]] = {}
    for (tpc, plane), count in zip(found.tolist(), counts.tolist(), strict=True):
        is_wanted = plane in choice.planes and choice.tpc in {None, tpc}
        if is_wanted and count > chosen.get(plane, (0, 0))[0]:
            chosen[plane] = (count, tpc)
    views = []
    for plane, (_, tpc) in sorted(chosen.items(), reverse=True):
        here = (hits["tpc"] == tpc) & (hits["plane"] == plane)
        views.append(_view(tpc, plane, {name: column[here] for name, column in hits.items()}))
    return views


def _view(tpc: int, plane: int, hits: Mapping[str, NDArray[Any]]) -> PlaneView:
    in_channel_space = bool(len(hits["wire"])) and hits["wire_space"][0] == "channel"
    row_name = "channel in plane" if in_channel_space else "wire"
    return PlaneView(f"TPC {tpc}, plane {PLANE_NAMES[plane]}: {len(hits['wire'])} hits", hits, row_name)


def _draw_plane(axes: Axes, view: PlaneView) -> None:
    wire, time = view.hits["wire"], view.hits["peak_time"]
    if view.charge is not None:
        n_wires, n_bins = view.charge.shape
        axes.imshow(
            view.charge.T,
            origin="lower",
            aspect="auto",
            cmap="Greys",
            vmin=0,
            vmax=_CHARGE_LIMIT,
            extent=(-0.5, n_wires - 0.5, 0, n_bins * view.ticks_per_bin),
            interpolation="nearest",
        )
    if "track" in view.hits:
        _draw_scored(axes, view)
    else:
        axes.scatter(wire, time, s=1.2, c="#0072B2", linewidths=0, rasterized=True)
    axes.set_title(view.title, fontsize=10, loc="left")
    axes.set_xlabel(view.row_name)
    axes.set_ylabel("time [ticks]")


def _draw_scored(axes: Axes, view: PlaneView) -> None:
    wire, time = view.hits["wire"], view.hits["peak_time"]
    style: dict[str, Any] = {"s": 1.5, "linewidths": 0, "rasterized": True}
    if view.colour in HitTruth.LABELS:
        # The highest scores last: they lie above the others.
        order = np.argsort(view.hits[view.colour], kind="stable")
        shown = axes.scatter(
            wire[order], time[order], c=view.hits[view.colour][order], cmap="viridis", vmin=0, vmax=1, **style
        )
        axes.figure.colorbar(shown, ax=axes, label=f"score {view.colour}", pad=0.01)
        return
    by_backend = view.colour == "backend"
    label = view.hits["backend"] if by_backend else hit_classes(view.hits)
    for name, colour in (_BACKEND_COLOURS if by_backend else CLASS_COLOURS).items():
        here = label == name
        axes.scatter(wire[here], time[here], c=colour, label=f"{name} ({here.sum()})", **style)
    axes.legend(loc="upper right", markerscale=5, fontsize=8, framealpha=0.9)


def hit_classes(hits: Mapping[str, NDArray[Any]]) -> NDArray[np.str_]:
    """Name the class of each hit: michel above 0.5 of its own score, else the largest of track, em and none."""
    scores = np.stack([hits[name] for name in HitTruth.LABELS], axis=1)
    return np.array(HitTruth.LABELS)[predicted_label(scores)]


def _place(choice: Choice) -> str:
    where = str(choice)
    return where if choice.tpc is None else f"{where}, TPC {choice.tpc}"


def _views_of_file(source: Path, choice: Choice, options: ReaderOptions) -> list[PlaneView]:
    from protosonic.events.formats import open_events
    from protosonic.events.model import EventId
    from protosonic.events.reader import BadEvent

    with open_events(source, options) as file:
        entry: int | None = choice.entry
        if choice.event is not None:
            wanted = EventId(*choice.event)
            entry = next((summary.entry for summary in file.summaries() if summary.id == wanted), None)
        event = None if entry is None else next((event for event in file.read([entry])), None)
    if event is None:
        raise DataError("there is no such event", code="no-events", file=source, where=str(choice))
    if isinstance(event, BadEvent):
        raise event.error
    return _views_of_event(event, choice)


def _views_of_event(event: Event, choice: Choice) -> list[PlaneView]:
    from protosonic.images.plane_image import CalibratedCharge, row_channels
    from protosonic.images.plane_image import plane_groups as groups
    from protosonic.images.profiles import Profile

    # Charge as it is: no lifetime correction, no amplitude constants.
    plain = Profile("display", lifetime_us=None)
    if event.waveforms is None:
        return []
    charge = CalibratedCharge(event, plain)
    busiest: dict[int, tuple[int, Any, Any]] = {}
    for key, members in groups(event.hits, choice.planes).items():
        if choice.tpc in {None, key.tpc} and len(members) > busiest.get(key.plane, (0, None, None))[0]:
            busiest[key.plane] = (len(members), key, members)
    views = []
    for _, (_, key, members) in sorted(busiest.items(), reverse=True):
        channels = row_channels(event.detector, key)
        image = np.zeros((len(channels), charge.n_columns), np.float32)
        row, column, value = charge.rows(channels)
        image[row, column] = value
        hits = event.hits.select(members)
        space = np.where(hits.in_wire_space, "wire", "channel")
        view = _view(
            key.tpc, key.plane, {"wire": hits.wire, "peak_time": hits.peak_time, "wire_space": space}
        )
        views.append(view._replace(charge=image, ticks_per_bin=plain.drift_window))
    return views


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
