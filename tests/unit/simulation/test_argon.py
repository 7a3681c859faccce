"""Liquid argon against the tables of the Particle Data Group and of NIST."""

from __future__ import annotations

import numpy as np
import pytest

from protosonic.simulation.argon import (
    DENSITY,
    collected_electrons,
    compton_energy,
    electron_loss,
    electron_range,
    heavy_loss,
    photon_attenuation,
    range_table,
)

MUON, PROTON = 105.6584, 938.2721


@pytest.mark.parametrize(
    ("energy", "loss"),
    # Muons in liquid argon, ionisation (Groom et al. 2001): MeV cm²/g.
    [(10.0, 5.687), (100.0, 1.669), (274.0, 1.508), (1000.0, 1.641)],
)
def test_muons_lose_what_the_tables_say(energy: float, loss: float) -> None:
    assert heavy_loss(np.array([energy]), MUON)[0] * 10 / DENSITY == pytest.approx(loss, rel=0.015)


@pytest.mark.parametrize(("energy", "range_g_cm2"), [(100.0, 42.7), (1000.0, 613.8)])
def test_muons_stop_where_the_tables_say(energy: float, range_g_cm2: float) -> None:
    range_mm = float(range_table(MUON).range_mm(energy))
    assert range_mm * DENSITY / 10 == pytest.approx(range_g_cm2, rel=0.02)
    assert float(range_table(MUON).energy(range_mm)) == pytest.approx(energy, rel=1e-3)


def test_restricted_loss_is_the_total_without_hard_transfers() -> None:
    energy = np.array([300.0, 3000.0])
    full, restricted = heavy_loss(energy, MUON), heavy_loss(energy, MUON, 0.5)
    assert (restricted < full).all()
    np.testing.assert_allclose(heavy_loss(energy, MUON, 1e9), full)


@pytest.mark.parametrize(
    ("energy", "loss", "rel"),
    # Electrons in argon, collision (NIST ESTAR): MeV cm²/g.
    [(0.5, 1.503, 0.02), (1.0, 1.376, 0.02), (10.0, 1.545, 0.03), (50.0, 1.71, 0.03)],
)
def test_electrons_lose_what_the_tables_say(energy: float, loss: float, rel: float) -> None:
    assert electron_loss(np.array([energy]))[0] * 10 / DENSITY == pytest.approx(loss, rel=rel)


def test_range_of_electrons_grows_with_energy() -> None:
    path = electron_range(np.geomspace(0.05, 100, 50))
    assert (np.diff(path) > 0).all()
    assert electron_range(np.array([1.0]))[0] == pytest.approx(4.3, rel=0.1)


@pytest.mark.parametrize(
    ("energy", "attenuation", "rel"),
    # Photons in argon, total without coherent scattering (NIST XCOM, rounded): cm²/g.
    [(0.5, 0.0785, 0.05), (1.0, 0.0575, 0.05), (10.0, 0.0280, 0.25), (100.0, 0.0367, 0.15)],
)
def test_photons_go_as_far_as_the_tables_say(energy: float, attenuation: float, rel: float) -> None:
    total = sum(float(part[0]) for part in photon_attenuation(np.array([energy])))
    assert total * 10 / DENSITY == pytest.approx(attenuation, rel=rel)


def test_compton_scattering_keeps_energy_and_momentum() -> None:
    energy = np.full(20_000, 2.0)
    scattered, cosine = compton_energy(energy, np.random.default_rng(1))
    np.testing.assert_allclose(scattered, 2.0 / (1 + 2.0 / 0.51099895 * (1 - cosine)), rtol=1e-9)
    # Mean share of the recoil electron at 2 MeV (Klein-Nishina): 0.53.
    assert 1 - scattered.mean() / 2.0 == pytest.approx(0.53, abs=0.01)


def test_a_minimum_ionising_particle_gives_thirty_thousand_electrons_on_a_wire() -> None:
    electrons = collected_electrons(np.array([2.1 * 0.479]), np.array([4.79]))
    assert electrons[0] == pytest.approx(30.0, rel=0.02)


def test_dense_ionisation_recombines_more() -> None:
    density = np.array([1.5, 2.1, 5.0, 20.0])
    survival = collected_electrons(density, np.full(4, 10.0)) / density
    assert (np.diff(survival) < 0).all()
