"""From event files with truth to a training set."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from protosonic import __version__
from protosonic.errors import ConfigError, DataError
from protosonic.events.truth import HitTruth
from protosonic.images.plane_image import CalibratedCharge, drift_bins, plane_groups, plane_image
from protosonic.images.profiles import load_profile
from protosonic.publish import sha256_of
from protosonic.training.set_file import EMPTY, VALUE_STEP, ImageTable, PointTable, TrainingSet

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from protosonic.events.model import Event, Hits
    from protosonic.events.reader import ReaderOptions
    from protosonic.images.plane_image import PlaneImage, PlaneKey
    from protosonic.images.profiles import Profile

__all__ = ["Sampling", "sample_event", "sample_files"]

LABELS = HitTruth.LABELS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sampling:
    """What of the events is kept.

    Attributes
    ----------
    profile
        Name of the preprocessing constants.
    planes
        Planes whose hits are kept.
    keep
        Share of the hits of each class that is kept, in the order of :attr:`HitTruth.LABELS`. The published training
        kept pixels with 0.005, 0.003, 1.5e-5 and 0.3, for a balanced set; here the batches are balanced, so nothing is
        thrown away unless the file must be small.
    empty
        Places without charge, for each hit that is kept: they teach what ``none`` looks like.
    seed
        Seeds the choice.
    """

    profile: str = "protodune-sp-2021"
    planes: tuple[int, ...] = (0, 1, 2)
    keep: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    empty: float = 0.02
    seed: int = 1


def sample_files(
    files: Sequence[Path], output: Path, sampling: Sampling, options: ReaderOptions
) -> TrainingSet:
    """Write the training set of some event files.

    Parameters
    ----------
    files
        Files whose events have truth.
    output
        The training set to write.
    sampling
        What is kept.
    options
        How the files are read.

    Returns
    -------
    What was written. An event's part of it depends on the event and on `sampling` only.

    Raises
    ------
    ConfigError
        The profile has no full view, or there is no file.
    DataError
        A file or an event cannot be used, or no hit has a class.
    """
    from protosonic.events.formats import open_events
    from protosonic.events.reader import BadEvent

    if not files:
        raise ConfigError("there is no event file to sample")
    parts = []
    for path in files:
        with open_events(path, options) as file:
            for event in file.read():
                if isinstance(event, BadEvent):
                    raise event.error
                parts.append(sample_event(event, sampling, path))
                log.info("%s: %s: %s", path, event.id, parts[-1].counts())
    header = {
        "files": {path.name: sha256_of(path) for path in files},
        "package_version": __version__,
        "sampling": {
            "keep": sampling.keep,
            "empty": sampling.empty,
            "planes": sampling.planes,
            "seed": sampling.seed,
        },
    }
    result = replace(TrainingSet.joined(parts), header=header)
    if not len(result.points):
        raise DataError("no hit of the files has a known class", code="no-truth", file=files[0])
    result.write(output)
    return result


def sample_event(event: Event, sampling: Sampling, path: Path | None = None) -> TrainingSet:
    """Make the part of a training set that one event gives.

    Raises
    ------
    ConfigError
        The profile has no full view.
    DataError
        Code ``no-truth``: the event has no truth or no waveforms.
    """
    profile = load_profile(sampling.profile)
    if not profile.full_view:
        raise ConfigError(
            "training needs a profile that bins the full view",
            found=sampling.profile,
            hint="Networks of the older profile are trained on patches that depend on the hit's tick",
        )
    if event.truth is None or event.waveforms is None:
        raise DataError(
            "the event has no truth or no waveforms",
            code="no-truth",
            file=path,
            where=str(event.id),
            hint="Simulated files have both: protosonic simulate",
        )
    charge = CalibratedCharge(event, profile)
    rng = np.random.default_rng([sampling.seed, *event.id])
    images: list[tuple[PlaneKey, PlaneImage]] = []
    points: list[PointTable] = []
    for key, members in plane_groups(event.hits, sampling.planes).items():
        image = plane_image(charge, event.detector, key, profile)
        hits = _hit_points(len(images), event.hits, event.truth, members, image, profile, sampling, rng)
        if len(hits):
            points += [hits, _empty_points(len(images), round(sampling.empty * len(hits)), image, rng)]
            images.append((key, image))
    return _as_set(event, images, points, profile)


def _hit_points(
    number: int,
    hits: Hits,
    truth: HitTruth,
    members: NDArray[np.intp],
    image: PlaneImage,
    profile: Profile,
    sampling: Sampling,
    rng: np.random.Generator,
) -> PointTable:
    """Choose hits of one image whose class is known."""
    label = truth.label[members]
    column = drift_bins(hits.peak_time[members], profile)
    kept = np.append(np.array(sampling.keep), 0.0)[label]  # unknown is −1, the last
    chosen = (rng.random(len(members)) < kept) & (column >= 0) & (column < image.n_columns)
    members = members[chosen]
    return PointTable(
        image=np.full(len(members), number, np.int32),
        row=hits.wire[members].astype(np.int32),
        column=column[chosen].astype(np.int32),
        label=label[chosen],
        kind=np.zeros(len(members), np.int8),
        fraction=truth.charge_fraction[members],
        charge=hits.integral[members],
    )


def _empty_points(number: int, n: int, image: PlaneImage, rng: np.random.Generator) -> PointTable:
    """Choose places without charge."""
    place = rng.integers(0, image.n_wires * image.n_columns, n)
    place = place[~np.isin(place, image.pixel)]
    row, column = np.divmod(place, image.n_columns)
    n = len(place)
    return PointTable(
        image=np.full(n, number, np.int32),
        row=row.astype(np.int32),
        column=column.astype(np.int32),
        label=np.full(n, LABELS.index("none"), np.int8),
        kind=np.full(n, EMPTY, np.int8),
        fraction=np.full(n, np.nan, np.float32),
        charge=np.zeros(n, np.float32),
    )


def _as_set(
    event: Event, images: list[tuple[PlaneKey, PlaneImage]], points: list[PointTable], profile: Profile
) -> TrainingSet:
    pixels = [np.empty(0, np.int64), *(image.pixel for _, image in images)]
    values = [np.empty(0, np.float32), *(image.value for _, image in images)]
    return TrainingSet(
        events=np.array([list(event.id)], np.int64),
        images=ImageTable(
            event=np.zeros(len(images), np.int32),
            cryostat=np.array([key.cryostat for key, _ in images], np.int16),
            tpc=np.array([key.tpc for key, _ in images], np.int16),
            plane=np.array([key.plane for key, _ in images], np.int16),
            n_wires=np.array([image.n_wires for _, image in images], np.int32),
            n_columns=np.array([image.n_columns for _, image in images], np.int32),
            n_pixels=np.array([len(image.pixel) for _, image in images], np.int32),
        ),
        pixel=np.concatenate(pixels),
        value=np.rint(np.concatenate(values) / VALUE_STEP).astype(np.int16),
        points=PointTable.concatenate(points),
        profile=profile.as_dict() | {"amplitude": list(profile.amplitude)},
        header={},
    )
