"""The shipped channel ↔ wire tables, as far as they can be told without the geometry files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from protosonic.detectors import detector_names, load_detector
from protosonic.detectors.geometry import Detector, WireID
from protosonic.errors import ConfigError

WRAPPED_DETECTORS = {"protodune-sp": 6, "protodune-hd": 4, "dune10kt-1x2x6": 12}
PER_APA = 2560


def apas() -> list[tuple[str, int]]:
    return [(name, apa) for name, count in WRAPPED_DETECTORS.items() for apa in range(count)]


@pytest.mark.parametrize(("name", "n_apas"), WRAPPED_DETECTORS.items())
def test_an_apa_has_2560_channels_and_two_tpcs(name: str, n_apas: int) -> None:
    detector = load_detector(name)
    assert detector.n_channels == PER_APA * n_apas
    assert [unit.tpcs for unit in detector.units] == [(2 * apa, 2 * apa + 1) for apa in range(n_apas)]
    for apa, unit in enumerate(detector.units):
        first = PER_APA * apa
        assert unit.channels == ((first, 800), (first + 800, 800), (first + 1600, 960))


@pytest.mark.parametrize(("name", "apa"), apas())
@pytest.mark.parametrize("plane", [0, 1])
@pytest.mark.parametrize("face", [0, 1])
def test_a_wrapped_plane_has_its_800_channels_once_or_twice(
    name: str, apa: int, plane: int, face: int
) -> None:
    detector = load_detector(name)
    table = detector.tables[2 * apa + face, plane]
    first, count = detector.units[apa].channels[plane]
    twice = 349 if name == "dune10kt-1x2x6" and plane == 0 else 348
    wires_per_channel = np.bincount(table - first, minlength=count)
    assert detector.n_wires(2 * apa + face, plane) == len(table) == 800 + twice
    assert len(wires_per_channel) == count == 800
    assert np.bincount(wires_per_channel).tolist() == [0, 800 - twice, twice]


@pytest.mark.parametrize("name", ["protodune-sp", "protodune-hd"])
@pytest.mark.parametrize("face", [0, 1])
def test_u_and_v_wind_in_segments_of_400_400_and_348_wires(name: str, face: int) -> None:
    detector = load_detector(name)
    for apa in range(WRAPPED_DETECTORS[name]):
        u, v = (detector.tables[2 * apa + face, plane] - PER_APA * apa for plane in (0, 1))
        start = 400 * face  # on the other face wire 0 is half a winding on
        np.testing.assert_array_equal(u, (start + np.arange(1148)) % 800)
        np.testing.assert_array_equal(v - 800, (start + 347 - np.arange(1148)) % 800)


@pytest.mark.parametrize(("name", "apa"), apas())
def test_collection_channels_fall_on_the_even_tpc_and_rise_on_the_odd_one(name: str, apa: int) -> None:
    detector = load_detector(name)
    falling, rising = detector.tables[2 * apa, 2], detector.tables[2 * apa + 1, 2]
    np.testing.assert_array_equal(falling, PER_APA * apa + 2079 - np.arange(480))
    np.testing.assert_array_equal(rising, PER_APA * apa + 2080 + np.arange(480))


def test_a_collection_channel_has_one_wire() -> None:
    detector = load_detector("protodune-sp")
    assert detector.wires_of(2560 + 2080) == [WireID(tpc=3, plane=2, wire=0)]
    assert detector.wires_of(2560 + 2079) == [WireID(tpc=2, plane=2, wire=0)]


def test_a_wrapped_channel_has_wires_on_both_faces() -> None:
    detector = load_detector("protodune-sp")
    # Channel 0 of APA 0: first and 801st wire of TPC 0, and the 401st of TPC 1.
    assert detector.wires_of(0) == [WireID(0, 0, 0), WireID(0, 0, 800), WireID(1, 0, 400)]


@pytest.mark.parametrize("name", detector_names())
def test_every_channel_of_a_table_belongs_to_the_plane_and_unit_of_its_tpc(name: str) -> None:
    detector = load_detector(name)
    for (tpc, plane), table in detector.tables.items():
        first, count = detector.units[detector.unit_of_tpc(tpc)].channels[plane]
        assert table.min() >= first
        assert table.max() < first + count
        assert table.dtype == np.int32
        assert not table.flags.writeable


@pytest.mark.parametrize("name", detector_names())
def test_planes_cover_every_channel_once(name: str) -> None:
    detector = load_detector(name)
    ranges = sorted(channels for unit in detector.units for channels in unit.channels)
    ends = [first + count for first, count in ranges]
    assert [first for first, _ in ranges] == [0, *ends[:-1]]
    assert ends[-1] == detector.n_channels


@pytest.mark.parametrize("name", detector_names())
def test_wires_of_inverts_the_tables(name: str) -> None:
    detector = load_detector(name)
    for channel in np.random.default_rng(1).integers(0, detector.n_channels, 20).tolist():
        wires = detector.wires_of(channel)
        assert wires == sorted(wires)
        assert all(detector.tables[tpc, plane][wire] == channel for tpc, plane, wire in wires)
        assert len(wires) == sum(int((table == channel).sum()) for table in detector.tables.values())


def test_microboone_numbers_its_wires_through() -> None:
    detector = load_detector("microboone")
    assert (detector.n_channels, detector.n_ticks) == (8256, 6400)
    assert [detector.n_wires(0, plane) for plane in range(3)] == [2400, 2400, 3456]
    through = np.concatenate([detector.tables[0, plane] for plane in range(3)])
    np.testing.assert_array_equal(through, np.arange(8256))


def test_detectors_are_listed_by_name() -> None:
    names = detector_names()
    assert list(names) == sorted(names)
    assert {*WRAPPED_DETECTORS, "protodune-vd", "protodune-vd-v1", "microboone"} == set(names)
    assert all(load_detector(name).name == name for name in names)


def test_an_unknown_detector_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'protodune'.*protodune-sp"):
        load_detector("protodune")


def test_runs_of_a_table_rise_and_fall() -> None:
    text = json.dumps(
        {
            "name": "toy",
            "source": "here",
            "n_ticks": 10,
            "tick_us": 0.5,
            "pitch_mm": [5.0],
            "units": [{"tpcs": [0], "channels": [[0, 6]]}],
            "wires": {"0/0": [[2, 3, -1], [3, 3, 1]]},
        }
    )
    detector = Detector.from_json(text)
    assert detector.tables[0, 0].tolist() == [2, 1, 0, 3, 4, 5]
    assert (detector.n_channels, detector.n_planes, detector.other_numberings) == (6, 1, ())
