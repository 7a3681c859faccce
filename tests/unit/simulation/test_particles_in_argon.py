"""Single particles: where their energy goes, and as what."""

from __future__ import annotations

import numpy as np
import pytest

from protosonic.detectors import load_detector
from protosonic.simulation.cascade import Photon, Showering
from protosonic.simulation.conditions import Conditions
from protosonic.simulation.drift import drift_to_wires
from protosonic.simulation.heavy import MUON, PION, PROTON, Heavy, follow
from protosonic.simulation.particles import EM, MICHEL, TRACK, Depositions, ParticleList
from protosonic.simulation.volumes import Box, active_box, drift_volumes

LARGE = Box(np.full(3, -20_000.0), np.full(3, 20_000.0))
ALONG = np.array([0.0, 0.0, 1.0])
ORIGIN = np.zeros(3)


def run(heavy: Heavy, seed: int = 1, box: Box = LARGE) -> tuple[Depositions, ParticleList]:
    rng = np.random.default_rng(seed)
    particles, parts = ParticleList(), []
    showering = Showering(box, rng)
    queue = [heavy]
    while queue:
        steps, products = follow(queue.pop(), box, particles, showering, 0.5, rng)
        parts.append(steps)
        queue += products
    parts.append(showering.run())
    return Depositions.concatenate(parts), particles


def shower(energy: float, seed: int = 1) -> Depositions:
    rng = np.random.default_rng(seed)
    showering = Showering(LARGE, rng)
    showering.add_electrons(
        ORIGIN[None], ALONG[None], np.array([energy]), 0.0, np.array([EM], np.int8), np.array([0], np.int32)
    )
    return showering.run()


@pytest.mark.parametrize("energy", [5.0, 50.0, 1000.0])
def test_a_shower_leaves_the_energy_that_it_had(energy: float) -> None:
    # An annihilating positron adds the masses of a pair that its creation had taken.
    assert shower(energy).energy.sum() == pytest.approx(energy, rel=0.02)


def test_a_shower_is_as_long_as_showers_are() -> None:
    deep = np.concatenate(
        [np.repeat(s.position[:, 2], 1) for s in (shower(1000.0, seed) for seed in range(20))]
    )
    weight = np.concatenate([shower(1000.0, seed).energy for seed in range(20)])
    # The mean depth of 1 GeV is that of the maximum, ln(E/Ec) − 0.5, and about 1.5 radiation lengths of 141 mm more.
    mean = np.average(deep, weights=weight) / 140.7
    assert 3.5 < mean < 6.5


def test_a_photon_travels_before_it_showers() -> None:
    first = []
    for seed in range(200):
        showering = Showering(LARGE, np.random.default_rng(seed))
        showering.add_photon(Photon(ORIGIN, ALONG, 500.0, 0.0, 0))
        first.append(float(np.linalg.norm(showering.run().position, axis=1).min()))
    # 9/7 of a radiation length, a bit more at this energy.
    assert 150 < np.mean(first) < 230


@pytest.mark.parametrize("pdg", [MUON, -MUON])
def test_a_muon_stops_at_its_range_and_keeps_its_energy(pdg: int) -> None:
    depositions, _ = run(Heavy(pdg, 300.0, ORIGIN, ALONG, 0.0))
    track = depositions.select((depositions.label == TRACK) & (depositions.particle == 0))
    assert track.position[:, 2].max() == pytest.approx(1242, rel=0.1)
    muon = depositions.label != MICHEL
    assert track.energy.sum() < depositions.energy[muon].sum()


def test_positive_muons_end_in_a_michel_electron_of_the_known_spectrum() -> None:
    energies = []
    for seed in range(300):
        _, particles = run(Heavy(-MUON, 20.0, ORIGIN, ALONG, 0.0), seed)
        table = particles.build()
        energies += table.kinetic_energy[table.label == MICHEL].tolist()
    assert len(energies) == 300
    assert max(energies) <= 52.83
    assert np.mean(energies) == pytest.approx(0.7 * 52.83, rel=0.04)


def test_most_negative_muons_are_captured() -> None:
    decays = 0
    for seed in range(200):
        table = run(Heavy(MUON, 20.0, ORIGIN, ALONG, 0.0), seed)[1].build()
        decays += int((table.label == MICHEL).sum())
    assert decays / 200 == pytest.approx(0.27, abs=0.1)


def test_the_radiation_of_a_michel_electron_is_a_shower() -> None:
    michel, radiated = 0.0, 0.0
    for seed in range(50):
        depositions, particles = run(Heavy(-MUON, 20.0, ORIGIN, ALONG, 0.0), seed)
        table = particles.build()
        michel += depositions.energy[depositions.label == MICHEL].sum()
        child = np.flatnonzero((table.pdg == 22) & (table.label == EM) & (table.kinetic_energy == 0))
        radiated += depositions.energy[np.isin(depositions.particle, child)].sum()
    assert 0.05 < radiated / michel < 0.6


def test_a_stopping_positive_pion_decays_through_a_muon() -> None:
    for seed in range(20):
        table = run(Heavy(PION, 15.0, ORIGIN, ALONG, 0.0), seed)[1].build()
        if -MUON in table.pdg.tolist():
            assert (table.label == MICHEL).sum() == 1
            break
    else:
        pytest.fail("no pion stopped")


def test_a_proton_is_short_and_dense() -> None:
    depositions, _ = run(Heavy(PROTON, 100.0, ORIGIN, ALONG, 0.0), seed=3)
    track = depositions.select(depositions.particle == 0)
    assert track.position[:, 2].max() == pytest.approx(78, rel=0.1)
    assert track.energy.sum() == pytest.approx(100, rel=0.05)


def test_nothing_is_left_outside_of_the_box() -> None:
    box = Box(np.full(3, -300.0), np.full(3, 300.0))
    depositions, _ = run(Heavy(-MUON, 1000.0, ORIGIN, ALONG, 0.0), box=box)
    # The middle of a step may lie half a step outside.
    assert np.abs(depositions.position).max() < 302


def test_charge_reaches_the_wires_of_its_place() -> None:
    detector = load_detector("protodune-sp")
    volume = next(v for v in drift_volumes(detector) if v.tpc == 1)
    position = np.array([[volume.anode_x + 1600.0, 3000.0, 1150.0]])
    depositions = Depositions(
        position,
        np.array([500.0]),
        np.array([1.0]),
        np.array([4.79]),
        np.array([TRACK], np.int8),
        np.zeros(1, np.int32),
    )
    charge = drift_to_wires(depositions, detector, Conditions())
    assert charge.tpc.tolist() == [1, 1, 1]
    assert charge.plane.tolist() == [0, 1, 2]
    # 1600 mm at 1.6 mm/µs are 1000 µs or 2000 ticks.
    np.testing.assert_allclose(charge.tick, 2500.0)
    np.testing.assert_allclose(charge.sigma, 1.5, atol=0.05)
    assert charge.coordinate[2] == pytest.approx((1150.0 - 3.2) / 4.792, abs=0.01)


@pytest.mark.parametrize("name", ["protodune-sp", "protodune-hd", "dune10kt-1x2x6"])
def test_the_wires_cover_the_box(name: str) -> None:
    detector = load_detector(name)
    rng = np.random.default_rng(1)
    box = active_box(detector)
    for volume in drift_volumes(detector):
        assert box.contains(volume.box.low).all()
        assert box.contains(volume.box.high).all()
        position = rng.uniform(volume.box.low, volume.box.high, (20_000, 3))
        for plane in range(3):
            wire = volume.wire_coordinate(plane, position)
            n_wires = detector.n_wires(volume.tpc, plane)
            assert wire.min() < 0.02 * n_wires
            assert wire.max() > 0.97 * n_wires
            assert ((wire >= 0) & (wire < n_wires)).mean() > 0.995
