"""Simulated events: reproducible, whole, and inside their detector."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from protosonic.detectors import load_detector
from protosonic.errors import ConfigError
from protosonic.events.formats import open_events
from protosonic.events.model import Event, EventId
from protosonic.events.reader import ReaderOptions
from protosonic.events.truth import HitTruth
from protosonic.simulation.files import simulate_files
from protosonic.simulation.generator import SIMULATED_DETECTORS, simulate_event

DETECTORS = sorted(SIMULATED_DETECTORS)
TRACK, EM, NONE, MICHEL = range(4)


def simulate(
    detector: str = "protodune-sp",
    number: int = 1,
    entry: int = 0,
    hits: int = 500,
    seed: int = 1,
    run: int = 1,
) -> Event:
    return simulate_event(load_detector(detector), EventId(run, 0, number), entry, hits, seed)


def assert_same_content(one: Event, other: Event) -> None:
    assert one.id == other.id
    for part in ("hits", "waveforms", "truth"):
        mine, its = getattr(one, part), getattr(other, part)
        for column in fields(mine):
            np.testing.assert_array_equal(getattr(mine, column.name), getattr(its, column.name))


def read(paths: list[Path]) -> list[Event]:
    events: list[Event] = []
    for path in paths:
        with open_events(path, ReaderOptions()) as file:
            events.extend(event for event in file.read() if isinstance(event, Event))
    return events


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_an_event_passes_its_check(detector: str, seed: int) -> None:
    event = simulate(detector, seed=seed)
    event.check()
    assert event.n_ticks == load_detector(detector).n_ticks
    assert event.detector.name == detector


@pytest.mark.parametrize("hits", [0, 1, 300, 5000])
def test_there_are_at_least_as_many_hits_as_asked_for(hits: int) -> None:
    event = simulate(hits=hits)
    assert len(event.hits) >= hits
    assert len(event.hits) < hits + 5000  # one particle more at most


@pytest.mark.parametrize("detector", DETECTORS)
def test_every_hit_has_its_truth(detector: str) -> None:
    event = simulate(detector, hits=25_000)
    assert event.truth is not None
    assert event.particles is not None
    assert event.waveforms is not None
    assert event.sample_label is not None
    assert len(event.sample_label) == len(event.waveforms.values)
    assert event.truth.label.dtype == np.int8
    assert len(event.truth.label) == len(event.hits)
    assert HitTruth.LABELS == ("track", "em", "none", "michel")
    share = np.bincount(event.truth.label, minlength=4) / len(event.hits)
    assert share[TRACK] > share[EM] > share[MICHEL] > 0
    assert share[NONE] > 0
    noise = event.truth.label == NONE
    assert (event.truth.particle[noise] == -1).all()
    owner = event.truth.particle[~noise]
    assert (owner >= 0).mean() > 0.98
    assert owner.max() < len(event.particles)
    # Where charges of particles overlap, the class with most charge need not be that of the strongest particle.
    known = owner >= 0
    assert (event.particles.label[owner[known]] == event.truth.label[~noise][known]).mean() > 0.95
    fraction = event.truth.charge_fraction
    assert ((fraction > 0) & (fraction <= 1)).all()


def test_particles_name_parents_before_them() -> None:
    particles = simulate(hits=20_000).particles
    assert particles is not None
    assert (particles.parent < np.arange(len(particles))).all()
    np.testing.assert_allclose(
        np.hypot(np.hypot(particles.direction_x, particles.direction_y), particles.direction_z), 1, atol=1e-5
    )
    michel = particles.label == MICHEL
    assert michel.any()
    assert set(np.abs(particles.pdg[michel]).tolist()) == {11}
    assert set(np.abs(particles.pdg[particles.parent[michel]]).tolist()) == {13}
    assert (particles.kinetic_energy[michel] <= 52.83).all()


def test_varied_conditions_give_another_event_of_the_same_kind() -> None:
    detector = load_detector("protodune-sp")
    events = [
        simulate_event(detector, EventId(1, 0, number), 0, 2000, 1, vary_conditions=True)
        for number in (1, 2, 3)
    ]
    widths = [float(np.median(event.hits.rms[event.hits.plane == 2])) for event in events]
    assert max(widths) / min(widths) > 1.05
    assert all(len(event.hits) >= 2000 for event in events)


def test_dead_channels_have_neither_charge_nor_hits() -> None:
    event = simulate(hits=3000)
    assert event.waveforms is not None
    assert 0 < len(event.bad_channels) < 0.02 * event.detector.n_channels
    assert not np.isin(event.bad_channels, event.waveforms.channel).any()
    assert not np.isin(event.bad_channels, event.hits.channel).any()


@pytest.mark.parametrize("detector", DETECTORS)
def test_hits_lie_in_drift_volumes_and_in_the_window(detector: str) -> None:
    event = simulate(detector, hits=5000)
    hits = event.hits
    assert event.truth is not None
    # Channels that face the wall have noise, too.
    real = event.truth.label != NONE
    assert set(hits.tpc[real].tolist()) <= set(SIMULATED_DETECTORS[detector])
    assert len(set(hits.tpc.tolist())) > 1
    assert set(hits.plane.tolist()) == {0, 1, 2}
    assert hits.in_wire_space.all()
    assert (hits.peak_time >= 0).all()
    assert (hits.peak_time < event.n_ticks).all()
    assert (hits.rms > 0).all()
    assert (hits.peak_amplitude > 0.4).all()  # of the fit; the maximum itself is above 0.6
    assert (np.diff(hits.channel) >= 0).all()
    for tpc, plane in sorted(set(zip(hits.tpc.tolist(), hits.plane.tolist(), strict=True))):
        here = (hits.tpc == tpc) & (hits.plane == plane)
        np.testing.assert_array_equal(hits.channel[here], event.detector.tables[tpc, plane][hits.wire[here]])


def test_every_hit_stands_on_charge_of_its_channel() -> None:
    event = simulate(hits=2000)
    waveforms, hits = event.waveforms, event.hits
    assert waveforms is not None
    charge = np.zeros((len(waveforms), event.n_ticks), np.float32)
    charge[waveforms.sample_waveform, waveforms.sample_tick] = waveforms.values
    row = np.searchsorted(waveforms.channel, hits.channel)
    np.testing.assert_array_equal(waveforms.channel[row], hits.channel)
    at_peak = charge[row, np.minimum(np.rint(hits.peak_time).astype(int), event.n_ticks - 1)]
    # The nearest tick is at most half a tick off; noise and overlapping pulses move some fits.
    assert (at_peak > 0).all()
    assert (at_peak > 0.75 * hits.peak_amplitude).mean() > 0.99


def test_waveforms_are_regions_in_order_within_the_window() -> None:
    event = simulate(hits=2000)
    waveforms = event.waveforms
    assert waveforms is not None
    end = waveforms.roi_start + np.diff(waveforms.value_offset)
    assert (waveforms.roi_start >= 0).all()
    assert (end <= event.n_ticks).all()
    of_waveform = np.repeat(np.arange(len(waveforms)), np.diff(waveforms.roi_offset))
    same = of_waveform[1:] == of_waveform[:-1]
    assert (waveforms.roi_start[1:] > end[:-1])[same].all()
    assert set(waveforms.n_samples.tolist()) == {event.n_ticks}
    assert (np.diff(waveforms.channel) > 0).all()
    assert (waveforms.values > 0).all()


def test_equal_seeds_and_numbers_give_equal_events() -> None:
    assert_same_content(simulate(entry=0), simulate(entry=7))


@pytest.mark.parametrize("change", [{"seed": 2}, {"number": 2}, {"run": 2}])
def test_another_seed_or_number_gives_another_event(change: dict[str, int]) -> None:
    one, other = simulate(), simulate(**change)
    assert len(one.hits) != len(other.hits) or (one.hits.peak_time != other.hits.peak_time).any()


@pytest.mark.parametrize("detector", ["protodune-vd", "protodune-vd-v1", "microboone"])
def test_detectors_without_a_simulation_are_refused(detector: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{detector} cannot be simulated.*protodune-sp"):
        simulate(detector)
    with pytest.raises(ConfigError, match="cannot be simulated"):
        list(simulate_files(tmp_path, detector=detector, files=1, events=1, hits=1, seed=1))
    assert list(tmp_path.iterdir()) == []


def test_how_events_are_spread_over_files_does_not_change_them(tmp_path: Path) -> None:
    spread = []
    for files, events in ((1, 4), (2, 2), (4, 1)):
        folder = tmp_path / str(files)
        paths = list(
            simulate_files(
                folder, detector="protodune-hd", files=files, events=events, hits=200, seed=3, run=9
            )
        )
        assert len(paths) == len(list(folder.iterdir())) == files
        spread.append(read(paths))
    for events_of_spread in spread:
        assert [event.id for event in events_of_spread] == [EventId(9, 0, number) for number in (1, 2, 3, 4)]
        for one, other in zip(events_of_spread, spread[0], strict=True):
            assert_same_content(one, other)


def test_files_hold_what_was_simulated(tmp_path: Path) -> None:
    (path,) = simulate_files(tmp_path, detector="protodune-sp", files=1, events=1, hits=300, seed=5)
    assert path.name == "protodune-sp-run000001-0000.h5"
    (event,) = read([path])
    assert_same_content(event, simulate(hits=300, seed=5))


def test_files_without_events_can_be_written(tmp_path: Path) -> None:
    (path,) = simulate_files(tmp_path, detector="protodune-sp", files=1, events=0, hits=300, seed=5)
    assert read([path]) == []
