"""What of an event is shown: planes with their hits, charge and truth, from input files and from datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from protosonic.campaign.layout import Layout
from protosonic.campaign.provenance import read_campaign_file
from protosonic.dataset.read import entry_of_event, read_event
from protosonic.dataset.scores import footer_of
from protosonic.detectors import load_detector
from protosonic.detectors.geometry import PLANE_NAMES
from protosonic.errors import ConfigError, DataError
from protosonic.evaluation.figures import predicted_label
from protosonic.events.truth import HitTruth
from protosonic.publish import sha256_of
from protosonic.reporting.terminal import UNTRAINED_WARNING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from protosonic.detectors.geometry import Detector
    from protosonic.events.model import Event
    from protosonic.events.reader import ReaderOptions

__all__ = [
    "Choice",
    "Colour",
    "PlaneView",
    "busiest",
    "event_numbers",
    "hit_classes",
    "truth_names",
    "views_of_hits",
    "views_of_source",
]

Colour = Literal["class", "track", "em", "none", "michel", "backend", "truth"]
UNKNOWN = "unknown"


class Choice(NamedTuple):
    """What of a source is shown, and how.

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
        What colours hits that are scored: ``class``, a score, ``backend`` or ``truth``.
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

    @property
    def place(self) -> str:
        """The event, and the TPC where one is chosen."""
        return str(self) if self.tpc is None else f"{self}, TPC {self.tpc}"


class PlaneView(NamedTuple):
    """One plane of one TPC.

    Attributes
    ----------
    tpc, plane
        Its numbers.
    hits
        Columns of its hits: at least ``wire`` and ``peak_time``, the scores where there are any, and ``truth``, the names
        of classes, where it is known.
    row_name
        ``wire``, or ``channel in plane``.
    charge
        Image [wires, bins] of charge in ``recob::Wire`` units, or ``None``.
    ticks_per_bin
        Width of a bin of the image.
    detector
        Where it is known: gives lengths and times.
    """

    tpc: int
    plane: int
    hits: Mapping[str, NDArray[Any]]
    row_name: str = "wire"
    charge: NDArray[np.float32] | None = None
    ticks_per_bin: int = 6
    detector: Detector | None = None

    @property
    def title(self) -> str:
        """What it shows."""
        return f"TPC {self.tpc}, plane {PLANE_NAMES[self.plane]}: {len(self.hits['wire']):,} hits"


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


def hit_classes(hits: Mapping[str, NDArray[Any]]) -> NDArray[np.str_]:
    """Name the class of each hit: michel above 0.5 of its own score, else the largest of track, em and none."""
    scores = np.stack([hits[name] for name in HitTruth.LABELS], axis=1)
    return np.array(HitTruth.LABELS)[predicted_label(scores)]


def truth_names(labels: NDArray[np.integer]) -> NDArray[np.str_]:
    """Name the true class of each hit; ``unknown`` where it is not known."""
    names: NDArray[np.str_] = np.array([*HitTruth.LABELS, UNKNOWN])[labels]
    return names


def busiest(views: Sequence[PlaneView]) -> list[PlaneView]:
    """Choose of each plane number the view with most hits, W first."""
    chosen: dict[int, PlaneView] = {}
    for view in views:
        if view.plane not in chosen or len(view.hits["wire"]) > len(chosen[view.plane].hits["wire"]):
            chosen[view.plane] = view
    return [chosen[plane] for plane in sorted(chosen, reverse=True)]


def views_of_hits(
    hits: Mapping[str, NDArray[Any]], choice: Choice, detector: Detector | None = None
) -> list[PlaneView]:
    """Part the hits of an event by TPC and plane, in ascending order; those that are not wanted are left out."""
    keys = np.stack([hits["tpc"].astype(np.int64), hits["plane"].astype(np.int64)], axis=1)
    views = []
    for tpc, plane in np.unique(keys, axis=0).tolist():
        if plane in choice.planes and choice.tpc in {None, tpc}:
            here = (hits["tpc"] == tpc) & (hits["plane"] == plane)
            part = {name: column[here] for name, column in hits.items()}
            row_name = "channel in plane" if part["wire_space"][0] == "channel" else "wire"
            views.append(PlaneView(tpc, plane, part, row_name, detector=detector))
    return views


def views_of_source(
    source: Path, choice: Choice, options: ReaderOptions, behind: Path | None = None
) -> tuple[list[PlaneView], str, str | None]:
    """Read the planes of an event.

    Parameters
    ----------
    source
        Input file, working directory or results folder of a finished campaign, or Parquet file of a dataset.
    choice
        What is wanted.
    options
        What an input file does not say.
    behind
        For a dataset: the input file of the event, whose charge and truth are added.

    Returns
    -------
    The views, what the event is called, and what must be said of its scores.

    Raises
    ------
    DataError
        There is no such event, or it has nothing to show.
    """
    is_dataset = source.is_dir() or source.suffix == ".parquet"
    if behind is not None and not is_dataset:
        raise ConfigError("only a dataset is shown with its input", where="--input", found=str(source))
    if is_dataset:
        views, numbers, note = _views_of_dataset(source, choice, options, behind)
    else:
        event = _event_of_file(source, choice.entry, choice.event, options, str(choice))
        views, numbers, note = _views_of_event(event, choice), event.id, None
    if not views:
        raise DataError("the event has nothing to draw", code="empty", file=source, where=choice.place)
    return views, "run {} subrun {} event {}".format(*numbers), note


def _views_of_dataset(
    source: Path, choice: Choice, options: ReaderOptions, behind: Path | None
) -> tuple[list[PlaneView], tuple[int, int, int], str | None]:
    place, model, inputs = _described(source)
    hits = read_event(place, choice.entry, choice.event)
    if not hits:
        return [], (0, 0, 0), None
    numbers = (int(hits["run"][0]), int(hits["subrun"][0]), int(hits["event"][0]))
    detectors = {entry["file_id"]: entry["detector"] for entry in inputs}
    name = options.detector or detectors.get(str(hits["file_id"][0]))
    detector = load_detector(name) if name else None
    charges: dict[tuple[int, int], PlaneView] = {}
    if behind is not None:
        event = _input_event(behind, place, hits, options, numbers)
        charges = {(view.tpc, view.plane): view for view in _views_of_event(event, choice)}
        if event.truth is not None:
            hits = {**hits, "truth": truth_names(event.truth.label[hits["hit"]])}
    views = views_of_hits(hits, choice, detector)
    for at, view in enumerate(views):
        charge = charges.get((view.tpc, view.plane))
        if charge is not None:
            views[at] = view._replace(charge=charge.charge, ticks_per_bin=charge.ticks_per_bin)
    return views, numbers, UNTRAINED_WARNING if model.get("untrained") else None


def _described(source: Path) -> tuple[Path, dict[str, Any], list[dict[str, Any]]]:
    """Give where the hits are, and what is known of the model and of the inputs."""
    if source.is_dir():
        is_results = (source / "campaign.json").exists()
        results = source if is_results else Layout.of_workdir(source).results
        provenance = read_campaign_file(results / "campaign.json")["provenance"]
        return results, provenance["model"], provenance["inputs"]
    return source, footer_of(source)["model"], []


def _input_event(
    path: Path,
    dataset: Path,
    hits: Mapping[str, NDArray[Any]],
    options: ReaderOptions,
    numbers: tuple[int, int, int],
) -> Event:
    """Read the event that hits of a dataset came from, and refuse another one."""
    file_id = str(hits["file_id"][0])
    found = sha256_of(path)[: len(file_id)]
    if found != file_id:
        raise DataError(
            "the event came from another file",
            code="wrong-input",
            file=path,
            where="--input",
            expected=f"a file whose SHA-256 begins with {file_id}",
            found=found,
        )
    entry = entry_of_event(dataset, numbers)
    return _event_of_file(path, entry or 0, None if entry is not None else numbers, options, "its event")


def _event_of_file(
    source: Path,
    entry: int | None,
    numbers: tuple[int, int, int] | None,
    options: ReaderOptions,
    where: str,
) -> Event:
    from protosonic.events.formats import open_events
    from protosonic.events.model import EventId
    from protosonic.events.reader import BadEvent

    with open_events(source, options) as file:
        if numbers is not None:
            wanted = EventId(*numbers)
            entry = next((summary.entry for summary in file.summaries() if summary.id == wanted), None)
        event = None if entry is None else next((event for event in file.read([entry])), None)
    if event is None:
        raise DataError("there is no such event", code="no-events", file=source, where=where)
    if isinstance(event, BadEvent):
        raise event.error
    return event


def _views_of_event(event: Event, choice: Choice) -> list[PlaneView]:
    from protosonic.images.plane_image import CalibratedCharge, plane_groups, row_channels
    from protosonic.images.profiles import Profile

    # Charge as it is: no lifetime correction, no amplitude constants.
    plain = Profile("display", lifetime_us=None)
    if event.waveforms is None:
        return []
    charge = CalibratedCharge(event, plain)
    views = []
    for key, members in plane_groups(event.hits, choice.planes).items():
        if choice.tpc not in {None, key.tpc}:
            continue
        channels = row_channels(event.detector, key)
        image = np.zeros((len(channels), charge.n_columns), np.float32)
        row, column, value = charge.rows(channels)
        image[row, column] = value
        hits = event.hits.select(members)
        columns: dict[str, NDArray[Any]] = {
            "wire": hits.wire,
            "peak_time": hits.peak_time,
            "integral": hits.integral,
        }
        if event.truth is not None:
            columns["truth"] = truth_names(event.truth.label[members])
        row_name = "wire" if hits.in_wire_space[0] else "channel in plane"
        views.append(
            PlaneView(key.tpc, key.plane, columns, row_name, image, plain.drift_window, event.detector)
        )
    return views
