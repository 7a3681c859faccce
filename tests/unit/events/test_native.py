"""Native files: what is written comes back; what is not this format is refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from protosonic.detectors import load_detector
from protosonic.errors import DataError
from protosonic.events.formats import open_events
from protosonic.events.model import Event, EventId, Hits, Waveforms
from protosonic.events.native_writer import NativeWriter
from protosonic.events.reader import ReaderOptions
from protosonic.events.truth import PARTICLE_FIELDS, HitTruth, Particles

from .builders import (
    N_TICKS,
    W_CHANNEL,
    assert_same_event,
    make_event,
    make_hits,
    make_waveforms,
    plain_event,
    pulse,
    read_good,
    read_one,
    refusal,
    write_native,
)

FLOATS = st.floats(-1e6, 1e6, width=32)
DETECTOR = load_detector("protodune-sp")


@st.composite
def some_waveforms(draw: st.DrawFn) -> Waveforms:
    charge = {}
    for channel in draw(st.sets(st.integers(0, DETECTOR.n_channels - 1), max_size=4)):
        rois, tick = {}, 0
        for gap, values in draw(
            st.lists(st.tuples(st.integers(0, 9), st.lists(FLOATS, max_size=4)), max_size=4)
        ):
            rois[tick + gap] = values
            tick += gap + len(values) + 1
        charge[channel] = rois
    return make_waveforms(charge)


@st.composite
def some_hits(draw: st.DrawFn) -> Hits:
    wire_space = draw(st.booleans())
    tpcs = st.integers(0, 11) if wire_space else st.integers(0, 5).map(lambda apa: 2 * apa)
    planes = st.integers(0, 2) if wire_space else st.integers(0, 1)
    wires = st.integers(0, 479)
    return make_hits(
        draw(st.lists(st.tuples(tpcs, planes, wires, FLOATS), max_size=6)), wire_space=wire_space
    )


@st.composite
def some_event(draw: st.DrawFn, entry: int, with_truth: bool) -> Event:
    has_waveforms = draw(st.booleans())
    hits = draw(some_hits()) if has_waveforms else Hits.empty()
    labels = draw(arrays(np.int8, len(hits), elements=st.integers(0, 3)))
    numbers = st.integers(0, 2**63 - 1)
    return Event(
        id=EventId(draw(numbers), draw(numbers), draw(numbers)),
        entry=entry,
        detector=DETECTOR,
        n_ticks=draw(st.integers(1, 6000)),
        waveforms=draw(some_waveforms()) if has_waveforms else None,
        hits=hits,
        bad_channels=draw(arrays(np.int32, st.integers(0, 3), elements=st.integers(0, 20000))),
        truth=HitTruth.of_labels(labels) if with_truth else None,
    )


@st.composite
def some_events(draw: st.DrawFn) -> list[Event]:
    with_truth = draw(st.booleans())
    return [draw(some_event(entry, with_truth)) for entry in range(draw(st.integers(1, 3)))]


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(events=some_events())
def test_events_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event]
) -> None:
    path = tmp_path_factory.mktemp("native") / "events.h5"
    write_native(path, *events, with_truth=events[0].truth is not None)
    read = read_good(path)
    assert len(read) == len(events)
    for one, other in zip(read, events, strict=True):
        assert_same_event(one, other)


def test_a_file_without_events_is_read(tmp_path: Path) -> None:
    path = tmp_path / "empty.h5"
    with NativeWriter(path, DETECTOR):
        pass
    assert read_good(path) == []


def test_only_the_wanted_events_are_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = write_native(tmp_path / "three.h5", *(plain_event(number, number - 1) for number in (1, 2, 3)))
    with open_events(path, ReaderOptions()) as file:
        read = list(file.read([2, 0]))
    for event, number in zip(read, (1, 3), strict=True):
        assert isinstance(event, Event)
        assert_same_event(event, plain_event(number, number - 1))


def test_events_without_truth_are_unlabelled_in_a_file_with_truth(tmp_path: Path) -> None:
    labelled = make_event(1, waveforms=make_waveforms({}), hits=make_hits([(1, 2, 0, 5.0)]), labels=[3])
    path = write_native(tmp_path / "truth.h5", labelled, plain_event(2, 1), with_truth=True)
    assert [event.truth.label.tolist() for event in read_good(path) if event.truth] == [[3], [-1]]


def test_the_charge_scale_applies_to_waveforms_only(tmp_path: Path) -> None:
    path = write_native(tmp_path / "a.h5", plain_event())
    scaled, plain = read_one(path, charge_scale=0.5), read_one(path)
    assert scaled.waveforms is not None
    assert scaled.waveforms.values.tolist() == [0.5, 2.5, 1.0]
    assert scaled.waveforms.values.dtype == np.float32
    np.testing.assert_array_equal(scaled.hits.integral, plain.hits.integral)


def test_a_file_takes_events_of_its_detector_only_and_does_not_appear_otherwise(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="events of one detector"):
        write_native(tmp_path / "never.h5", plain_event(), make_event(2, detector="protodune-hd"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("detector", ["protodune-vd", "protodune-vd-v1"])
def test_a_file_of_either_numbering_fits_the_configured_detector(tmp_path: Path, detector: str) -> None:
    path = write_native(tmp_path / "vd.h5", make_event(detector=detector, waveforms=make_waveforms({})))
    assert read_one(path, detector="protodune-vd").detector.name == detector


def test_another_detector_than_configured_is_refused(tmp_path: Path) -> None:
    path = write_native(tmp_path / "sp.h5", plain_event())
    error = refusal(path, detector="protodune-hd")
    assert error.code == "wrong-detector"
    assert (error.expected, error.found) == ("protodune-hd", "protodune-sp")


def test_an_unknown_detector_is_refused(tmp_path: Path) -> None:
    path = write_native(tmp_path / "a.h5", plain_event())
    with h5py.File(path, "a") as file:
        file.attrs["detector"] = "protodune-xx"
    error = refusal(path)
    assert (error.code, error.found) == ("wrong-detector", "protodune-xx")
    assert "protodune-sp" in str(error.expected)


@pytest.mark.parametrize("version", [0, 2, "1", [1, 1], None])
def test_another_version_is_refused(tmp_path: Path, version: object) -> None:
    path = write_native(tmp_path / "a.h5", plain_event())
    with h5py.File(path, "a") as file:
        del file.attrs["format_version"]
        if version is not None:
            file.attrs["format_version"] = version
    error = refusal(path)
    assert error.code == "unsupported-format"
    assert error.where == "attribute format_version"


def test_attributes_may_be_text_of_fixed_length(tmp_path: Path) -> None:
    """As C, Fortran and MATLAB write them."""
    path = write_native(tmp_path / "a.h5", plain_event())
    with h5py.File(path, "a") as file:
        for name in ("format", "detector"):
            file.attrs[name] = np.bytes_(file.attrs[name])
    assert_same_event(read_one(path), plain_event())


@pytest.mark.parametrize("dtype", [np.uint64, np.int32])
def test_offsets_may_be_of_another_integer_type(tmp_path: Path, dtype: type) -> None:
    path = write_native(tmp_path / "a.h5", plain_event(1), plain_event(2, 1))
    with h5py.File(path, "a") as file:
        for name in ("events/hit_offset", "events/waveform_offset", "waveforms/roi_offset"):
            values = file[name][:].astype(dtype)
            del file[name]
            file[name] = values
    for event, number in zip(read_good(path), (1, 2), strict=True):
        assert_same_event(event, plain_event(number, number - 1))


def test_the_summary_counts_hits_and_samples_without_reading_waveforms(tmp_path: Path) -> None:
    busy = make_event(
        2,
        waveforms=make_waveforms({W_CHANNEL: {0: pulse(30)}}),
        hits=make_hits([(1, 2, 0, 30.0), (1, 0, 5, 2.0), (1, 2, 1, 3.0)]),
    )
    path = write_native(tmp_path / "a.h5", make_event(1), busy)
    with open_events(path, ReaderOptions()) as file:
        first, second = file.summaries()
    assert (first.id, first.hits_by_plane, first.n_samples) == (EventId(7, 3, 1), (0, 0, 0), 0)
    assert (second.id, second.hits_by_plane, second.n_samples) == (EventId(7, 3, 2), (1, 0, 2), N_TICKS)


def test_hits_without_waveforms_are_bad_in_summary_and_reading(tmp_path: Path) -> None:
    path = write_native(tmp_path / "a.h5", make_event(hits=make_hits([(1, 2, 0, 5.0)])), plain_event(2, 1))
    with open_events(path, ReaderOptions()) as file:
        assert [s.error.code if s.error else None for s in file.summaries()] == ["no-waveforms", None]
        bad, good = file.read()
    assert not isinstance(bad, Event)
    assert bad.error.code == "no-waveforms"
    assert isinstance(good, Event)


def test_particles_and_the_truth_of_samples_are_kept(tmp_path: Path) -> None:
    plain = plain_event(2, 1)
    assert plain.waveforms is not None
    sample_label = np.arange(len(plain.waveforms.values)).astype(np.int8) % 5 - 1
    particles = Particles(**{name: np.array([7, 8], dtype) for name, dtype in PARTICLE_FIELDS.items()})
    n = len(plain.hits)
    truth = HitTruth(np.full(n, 3, np.int8), np.full(n, 1, np.int32), np.full(n, 0.75, np.float32))
    event = replace(plain, truth=truth, sample_label=sample_label, particles=particles)
    unlabelled, found = read_good(write_native(tmp_path / "a.h5", plain_event(1, 0), event, with_truth=True))
    for part in ("truth", "particles"):
        for name, column in vars(getattr(event, part)).items():
            np.testing.assert_array_equal(getattr(getattr(found, part), name), column, strict=True)
    np.testing.assert_array_equal(found.sample_label, sample_label, strict=True)
    assert unlabelled.particles is not None
    assert len(unlabelled.particles) == 0
    assert set(unlabelled.sample_label.tolist()) <= {HitTruth.UNKNOWN}


def test_a_file_with_the_classes_of_hits_only_is_read(tmp_path: Path) -> None:
    labelled = make_event(1, waveforms=make_waveforms({}), hits=make_hits([(1, 2, 0, 5.0)]), labels=[3])
    path = write_native(tmp_path / "a.h5", labelled, with_truth=True)
    with h5py.File(path, "r+") as file:
        del file["particles"]
        for name in set(file["truth"]) - {"hit_label"}:
            del file["truth"][name]
    (event,) = read_good(path)
    assert event.truth is not None
    assert (event.truth.label.tolist(), event.truth.particle.tolist()) == ([3], [-1])
    assert np.isnan(event.truth.charge_fraction).all()
    assert (event.sample_label, event.particles) == (None, None)


@pytest.mark.parametrize("missing", ["truth/hit_label", "particles", "particles/pdg"])
def test_truth_that_lacks_what_belongs_to_it_is_refused(tmp_path: Path, missing: str) -> None:
    path = write_native(tmp_path / "a.h5", plain_event(), with_truth=True)
    with h5py.File(path, "r+") as file:
        del file[missing]
    with open_events(path, ReaderOptions()) as file:
        (bad,) = file.read()
    assert not isinstance(bad, Event)
    assert missing.rpartition("/")[2] in str(bad.error)


def test_truth_of_too_few_samples_is_refused(tmp_path: Path) -> None:
    path = write_native(tmp_path / "a.h5", plain_event(), with_truth=True)
    with h5py.File(path, "r+") as file:
        file["truth/sample_label"].resize((len(file["values/charge"]) - 1,))
    with open_events(path, ReaderOptions()) as file:
        (bad,) = file.read()
    assert not isinstance(bad, Event)
    assert bad.error.code == "corrupt"
