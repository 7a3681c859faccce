"""Events with truth and scores: of a finished campaign, or of files that are scored here."""

from __future__ import annotations

import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as ds

from protosonic.campaign.inputs import find_inputs
from protosonic.campaign.provenance import read_campaign
from protosonic.config import Settings
from protosonic.errors import DataError, VerificationError
from protosonic.events.formats import open_events
from protosonic.events.model import EventId
from protosonic.events.reader import BadEvent
from protosonic.events.truth import HitTruth
from protosonic.images.unit import prepare_event
from protosonic.inference.contract import SCORE_NAMES
from protosonic.publish import sha256_of
from protosonic.remote.urls import is_url
from protosonic.stages.infer import hit_batches, order_on_image
from protosonic.stages.input_files import fetcher_for, open_unchanged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from protosonic.campaign.layout import Layout
    from protosonic.campaign.records import InputSpec
    from protosonic.config import Remote
    from protosonic.events.model import Event
    from protosonic.events.reader import ReaderOptions
    from protosonic.events.source import AnyFile
    from protosonic.events.truth import Particles
    from protosonic.images.profiles import Profile
    from protosonic.images.unit import UnitEvent
    from protosonic.inference.contract import Backend

__all__ = ["TrueEvent", "events_of_campaign", "events_of_files"]

log = logging.getLogger(__name__)

HIT_COLUMNS = (
    "tpc",
    "plane",
    "wire",
    "peak_time",
    "rms",
    "peak_amplitude",
    "integral",
    "in_fiducial",
)


@dataclass(frozen=True)
class TrueEvent:
    """The classified hits of an event with their truth.

    Attributes
    ----------
    id
        Run, subrun and event number.
    hits
        The columns :data:`HIT_COLUMNS`, in the order of the event's collection.
    truth
        Of these hits.
    particles
        What the truth refers to, where it is known.
    scores
        float32 [hits, 4]; ``None`` where nothing scored them.
    """

    id: EventId
    hits: Mapping[str, NDArray[Any]]
    truth: HitTruth
    particles: Particles | None
    scores: NDArray[np.float32] | None


def events_of_files(
    files: Sequence[Path],
    options: ReaderOptions,
    profile: Profile,
    planes: tuple[int, ...],
    backend: Backend | None,
) -> Iterator[TrueEvent]:
    """Read events with truth, and score them.

    Events without truth and those that cannot be used are named in the log and left out.

    Parameters
    ----------
    files
        Event files of any format.
    options
        How to read them.
    profile, planes
        Preprocessing constants, and the planes to classify.
    backend
        Scores the hits; ``None`` leaves the scores out.

    Raises
    ------
    DataError
        A file cannot be used, or (code ``no-truth``) has no event with truth.
    """
    with ThreadPoolExecutor(backend.concurrency if backend else 1) as pool:
        for file in files:
            for event in _events_with_truth(file, options):
                unit = prepare_event(event, profile, planes)
                scores = None if backend is None else _scores(unit, profile, backend, pool)
                hit = _joined(unit, "hit")
                order = np.argsort(hit)
                assert event.truth is not None
                yield TrueEvent(
                    event.id,
                    {name: _joined(unit, name)[order] for name in HIT_COLUMNS},
                    _select_truth(event.truth, hit[order]),
                    event.particles,
                    None if scores is None else scores[order],
                )


def events_of_campaign(layout: Layout) -> Iterator[TrueEvent]:
    """Join the scores of a finished campaign with the truth in its input files.

    Raises
    ------
    VerificationError
        An input file is gone or has changed since.
    DataError
        Code ``no-truth``: an input file has no event with truth.
    """
    provenance = read_campaign(layout)["provenance"]
    settings = Settings.model_validate(provenance["settings"])
    with contextlib.chdir(layout.workdir):  # paths of the configuration are relative to it
        specs = {file.path: file.spec for file in find_inputs(settings)}
    hits = ds.dataset(layout.hits, format="parquet")
    columns = ["run", "subrun", "event", "hit", *HIT_COLUMNS, *SCORE_NAMES]
    for entry in provenance["inputs"]:
        if entry["reason"] is not None:
            continue
        table = hits.to_table(columns=columns, filter=pc.field("file_id") == entry["file_id"])
        with _campaign_file(layout, entry, specs, settings.remote) as source:
            yield from _join(
                source,
                specs[entry["file"]].reader_options(),
                {name: table[name].to_numpy() for name in columns},
            )


@contextlib.contextmanager
def _campaign_file(
    layout: Layout, entry: Mapping[str, str], specs: Mapping[str, InputSpec], remote: Remote
) -> Iterator[AnyFile]:
    """Get at an input file of a campaign, which must be as it was."""
    name = entry["file"]
    if is_url(name) and name in specs:
        with fetcher_for(remote) as fetcher, open_unchanged(name, entry["sha256"], fetcher) as (source, _):
            yield source
        return
    path = layout.workdir / name
    _check_unchanged(path, entry["sha256"], specs.get(name))
    yield path


def _join(path: AnyFile, options: ReaderOptions, rows: Mapping[str, NDArray[Any]]) -> Iterator[TrueEvent]:
    ids = np.stack([rows[name] for name in ("run", "subrun", "event")], axis=1)
    found, place = np.unique(ids, axis=0, return_inverse=True)
    order = np.lexsort((rows["hit"], place.reshape(-1)))
    ends = np.cumsum(np.bincount(place.reshape(-1), minlength=len(found)))
    members = {
        EventId(*key): part for key, part in zip(found.tolist(), np.split(order, ends[:-1]), strict=True)
    }
    for event in _events_with_truth(path, options):
        here = members.get(event.id)
        if here is None:  # quarantined, or without hits
            continue
        assert event.truth is not None
        yield TrueEvent(
            event.id,
            {name: rows[name][here] for name in HIT_COLUMNS},
            _select_truth(event.truth, rows["hit"][here]),
            event.particles,
            np.stack([rows[name][here] for name in SCORE_NAMES], axis=1).astype(np.float32),
        )


def _events_with_truth(path: AnyFile, options: ReaderOptions) -> Iterator[Event]:
    without = 0
    has_truth = False
    with open_events(path, options) as file:
        for event in file.read():
            if isinstance(event, BadEvent):
                log.warning("%s: %s is left out: %s", path, event.id, event.error.reason)
            elif event.truth is None:
                without += 1
            else:
                has_truth = True
                yield event
    if not has_truth:
        raise DataError(
            "the file does not say what its hits really are",
            code="no-truth",
            file=path,
            expected="events with truth (simulated, or Wire-Cell truth frames)",
            found=f"{without} events without",
        )
    if without:
        log.warning("%s: %d events without truth are left out", path, without)


def _scores(
    unit: UnitEvent, profile: Profile, backend: Backend, pool: ThreadPoolExecutor
) -> NDArray[np.float32]:
    """Score the hits of an event, in the order of its images."""
    batches = hit_batches([unit], profile, backend.batch_size, blank_duplicates=False)
    pieces = (
        batch.cut(first, backend.batch_size)
        for batch in batches
        for first in range(0, len(batch), backend.batch_size)
    )
    scored = [np.empty((0, len(SCORE_NAMES)), np.float32), *pool.map(backend.score, pieces)]
    scores = np.empty((unit.n_hits, len(SCORE_NAMES)), np.float32)
    first = 0
    places = [np.empty(0, np.intp)]
    for image in unit.images:
        places.append(first + order_on_image(image))
        first += len(image)
    scores[np.concatenate(places)] = np.concatenate(scored)
    return scores


def _joined(unit: UnitEvent, name: str) -> NDArray[Any]:
    parts = [image.hits[name] for image in unit.images]
    return np.concatenate(parts) if parts else np.empty(0, np.int32)


def _select_truth(truth: HitTruth, which: NDArray[np.integer]) -> HitTruth:
    return HitTruth(truth.label[which], truth.particle[which], truth.charge_fraction[which])


def _check_unchanged(path: Path, sha256: str, spec: InputSpec | None) -> None:
    if spec is None or not path.is_file():
        raise VerificationError(
            "an input file of the campaign is gone",
            file=path,
            hint="The truth is read from the input files; bring it back to its place",
        )
    if sha256_of(path) != sha256:
        raise VerificationError("the file has changed since the campaign read it", file=path)
