"""Training sets: what is sampled from events, and the file that holds it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np
import pytest

from protosonic.detectors import load_detector
from protosonic.errors import ConfigError, DataError
from protosonic.events.model import Event, EventId
from protosonic.events.truth import HitTruth
from protosonic.images.patches import PatchCutter
from protosonic.images.plane_image import CalibratedCharge, PlaneKey, plane_image
from protosonic.images.profiles import load_profile
from protosonic.simulation.generator import simulate_event
from protosonic.training.sampling import Sampling, sample_event
from protosonic.training.set_file import EMPTY, VALUE_STEP, TrainingSet

PROFILE = load_profile("protodune-sp-2021")


@pytest.fixture(scope="module")
def event() -> Event:
    return simulate_event(load_detector("protodune-sp"), EventId(1, 0, 1), 0, 4000, 3, stopping_share=0.7)


@pytest.fixture(scope="module")
def training_set(event: Event) -> TrainingSet:
    return sample_event(event, Sampling())


def test_every_hit_of_known_class_is_kept(event: Event, training_set: TrainingSet) -> None:
    assert event.truth is not None
    counts = training_set.counts()
    for index, name in enumerate(HitTruth.LABELS):
        assert counts[name] == (event.truth.label == index).sum()
    assert 0 < counts["empty"] < 0.03 * len(event.hits)


def test_images_are_those_of_the_preprocessing(event: Event, training_set: TrainingSet) -> None:
    images = training_set.images
    charge = CalibratedCharge(event, PROFILE)
    start = 0
    for number in range(len(images)):
        key = PlaneKey(0, int(images.tpc[number]), int(images.plane[number]))
        image = plane_image(charge, event.detector, key, PROFILE)
        part = slice(start, start + images.n_pixels[number])
        np.testing.assert_array_equal(training_set.pixel[part], image.pixel)
        np.testing.assert_allclose(training_set.value[part] * VALUE_STEP, image.value, atol=VALUE_STEP / 2)
        start += int(images.n_pixels[number])
    assert start == len(training_set.pixel)


def test_places_without_charge_have_none(training_set: TrainingSet) -> None:
    points, images = training_set.points, training_set.images
    first = np.cumsum(images.n_pixels) - images.n_pixels
    for point in np.flatnonzero(points.kind == EMPTY):
        number = points.image[point]
        pixels = training_set.pixel[first[number] : first[number] + images.n_pixels[number]]
        assert points.row[point] * images.n_columns[number] + points.column[point] not in pixels
        assert points.label[point] == HitTruth.LABELS.index("none")


def test_patches_of_hits_are_those_of_the_network(event: Event, training_set: TrainingSet) -> None:
    """Row and column of a place are those that the patch cutter takes."""
    points = training_set.points
    number = int(points.image[0])
    key = PlaneKey(0, int(training_set.images.tpc[number]), int(training_set.images.plane[number]))
    image = plane_image(CalibratedCharge(event, PROFILE), event.detector, key, PROFILE)
    here = (points.image == number) & (points.kind != EMPTY)
    row, column = points.row[here], points.column[here].astype(np.int64)
    patches = PatchCutter(image, PROFILE).cut(row, column, np.zeros(len(row), np.float32))
    dense = image.dense(0.0)
    np.testing.assert_array_equal(patches[:, 24, 24], dense[row, column])


def test_unknown_hits_are_left_out(event: Event) -> None:
    from dataclasses import replace

    unknown = replace(event, truth=HitTruth.unknown(len(event.hits)))
    assert len(sample_event(unknown, Sampling()).points) == 0


def test_shares_of_classes_can_be_thinned(event: Event, training_set: TrainingSet) -> None:
    thinned = sample_event(event, Sampling(keep=(0.1, 1.0, 0.0, 1.0))).counts()
    full = training_set.counts()
    assert thinned["track"] == pytest.approx(0.1 * full["track"], rel=0.3)
    assert thinned["none"] == 0
    assert thinned["michel"] == full["michel"]


def test_events_without_truth_are_refused(event: Event) -> None:
    from dataclasses import replace

    with pytest.raises(DataError, match="no truth"):
        sample_event(replace(event, truth=None), Sampling())


def test_profiles_without_full_view_are_refused(event: Event) -> None:
    with pytest.raises(ConfigError, match="full view"):
        sample_event(event, Sampling(profile="protodune-sp-2019"))


def assert_equal(one: TrainingSet, other: TrainingSet) -> None:
    np.testing.assert_array_equal(one.events, other.events)
    np.testing.assert_array_equal(one.pixel, other.pixel)
    np.testing.assert_array_equal(one.value, other.value)
    for table in ("images", "points"):
        for field in fields(getattr(one, table)):
            np.testing.assert_array_equal(
                getattr(getattr(one, table), field.name), getattr(getattr(other, table), field.name)
            )
    assert one.profile == other.profile


def test_a_file_gives_back_what_was_written(training_set: TrainingSet, tmp_path: Path) -> None:
    training_set.write(tmp_path / "set.h5")
    assert_equal(TrainingSet.read(tmp_path / "set.h5"), training_set)


def test_joined_sets_are_read_back(training_set: TrainingSet, tmp_path: Path) -> None:
    joined = TrainingSet.joined([training_set, training_set])
    assert len(joined.points) == 2 * len(training_set.points)
    assert joined.points.image.max() == 2 * len(training_set.images) - 1
    joined.write(tmp_path / "set.h5")
    assert_equal(TrainingSet.read(tmp_path / "set.h5"), joined)


def test_sets_of_different_preprocessing_are_not_joined(training_set: TrainingSet) -> None:
    from dataclasses import replace

    with pytest.raises(DataError, match="different preprocessing"):
        TrainingSet.joined([training_set, replace(training_set, profile={"name": "other"})])


@pytest.mark.parametrize("change", ["format", "label", "row", "pixels"])
def test_damaged_files_are_refused(training_set: TrainingSet, tmp_path: Path, change: str) -> None:
    path = tmp_path / "set.h5"
    training_set.write(path)
    with h5py.File(path, "a") as file:
        if change == "format":
            file.attrs["format"] = "else"
        elif change == "label":
            file["points/label"][0] = 7
        elif change == "row":
            file["points/row"][0] = 5000
        else:
            file["images/n_pixels"][0] = 1
    with pytest.raises(DataError, match=r"set\.h5"):
        TrainingSet.read(path)
