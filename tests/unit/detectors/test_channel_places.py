"""Places of channels for inputs that know only channels, and telling channel numberings apart."""

from __future__ import annotations

import numpy as np
import pytest

from protosonic.detectors import load_detector
from protosonic.errors import DataError
from protosonic.events.reader import numbering_of, numberings


def whole_planes(name: str, unit: int) -> np.ndarray:
    """Channels of one readout unit."""
    ranges = load_detector(name).units[unit].channels
    return np.concatenate([np.arange(first, first + count, dtype=np.int32) for first, count in ranges])


@pytest.mark.parametrize("name", ["protodune-sp", "protodune-hd", "dune10kt-1x2x6"])
def test_collection_channels_are_placed_on_their_wire(name: str) -> None:
    detector, places = load_detector(name), load_detector(name).channel_places
    for tpc in (2, 3):
        table = detector.tables[tpc, 2]
        assert set(places.tpc[table]) == {tpc}
        assert set(places.plane[table]) == {2}
        np.testing.assert_array_equal(places.wire[table], np.arange(480))
        assert places.in_wire_space[table].all()
        assert set(places.unit[table]) == {1}


@pytest.mark.parametrize("plane", [0, 1])
def test_wrapped_channels_stay_in_channel_space(plane: int) -> None:
    places = load_detector("protodune-sp").channel_places
    channels = np.arange(2560 + 800 * plane, 2560 + 800 * (plane + 1))
    assert set(places.tpc[channels]) == {2}  # the lowest TPC of the APA
    assert set(places.plane[channels]) == {plane}
    np.testing.assert_array_equal(places.wire[channels], np.arange(800))
    assert not places.in_wire_space[channels].any()


@pytest.mark.parametrize(
    ("name", "in_wire_space"),
    [
        ("protodune-sp", (False, False, True)),
        ("protodune-vd", (False, False, True)),  # no table of the induction strips is published
        ("microboone", (True, True, True)),
    ],
)
def test_a_plane_is_in_wire_space_when_each_channel_is_one_wire(
    name: str, in_wire_space: tuple[bool, ...]
) -> None:
    assert load_detector(name).planes_in_wire_space == in_wire_space


def test_microboone_channels_are_placed_on_their_wires() -> None:
    places = load_detector("microboone").channel_places
    channels = np.array([0, 2399, 2400, 4800, 8255])
    assert places.plane[channels].tolist() == [0, 0, 1, 2, 2]
    assert places.wire[channels].tolist() == [0, 2399, 0, 0, 3455]
    assert places.in_wire_space[channels].all()


@pytest.mark.parametrize("name", ["protodune-sp", "protodune-vd", "protodune-vd-v1", "microboone"])
def test_every_channel_has_a_place_of_its_own(name: str) -> None:
    places = load_detector(name).channel_places
    rows = np.stack([places.tpc, places.plane, places.wire, places.in_wire_space], axis=1)
    assert (rows[:, :3] >= 0).all()
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_vertical_drift_collection_wires_are_placed_on_both_tpcs_of_a_unit() -> None:
    places = load_detector("protodune-vd").channel_places
    channels = np.array([1904, 2195, 2196, 2487])
    assert places.tpc[channels].tolist() == [0, 0, 1, 1]
    assert places.wire[channels].tolist() == [0, 291, 0, 291]


@pytest.mark.parametrize("stored", ["protodune-vd", "protodune-vd-v1"])
@pytest.mark.parametrize("unit", range(8))
def test_the_numbering_of_a_unit_is_found(stored: str, unit: int) -> None:
    assert numbering_of(load_detector("protodune-vd"), whole_planes(stored, unit)).name == stored


@pytest.mark.parametrize("stored", ["protodune-vd", "protodune-vd-v1"])
@pytest.mark.parametrize("unit", range(8))
def test_the_numbering_is_found_when_channels_are_missing(stored: str, unit: int) -> None:
    channels = whole_planes(stored, unit)
    inside = np.random.default_rng(unit).choice(np.arange(5, 400), 60, replace=False)
    assert numbering_of(load_detector("protodune-vd"), np.delete(channels, inside)).name == stored


@pytest.mark.parametrize("stored", ["protodune-vd", "protodune-vd-v1"])
def test_the_numbering_of_a_whole_detector_is_found(stored: str) -> None:
    channels = np.arange(load_detector(stored).n_channels, dtype=np.int32)
    assert numbering_of(load_detector("protodune-vd"), channels).name == stored


@pytest.mark.parametrize("channels", [[], [700, 701, 702]])
@pytest.mark.parametrize("configured", ["protodune-vd", "protodune-vd-v1"])
def test_the_configured_numbering_wins_a_tie(channels: list[int], configured: str) -> None:
    assert numbering_of(load_detector(configured), np.array(channels, np.int32)).name == configured


@pytest.mark.parametrize("channel", [-1, 15360])
def test_channels_that_do_not_exist_are_refused(channel: int) -> None:
    detector = load_detector("protodune-sp")
    assert detector.channel_fit(np.array([0, channel], np.int32)) == -1
    with pytest.raises(DataError) as caught:
        numbering_of(detector, np.array([0, channel], np.int32))
    assert caught.value.code == "wrong-detector"
    assert "0 to 15359 of protodune-sp" in str(caught.value)


def test_fit_counts_ends_of_planes() -> None:
    detector = load_detector("protodune-sp")
    assert detector.channel_fit(np.arange(0, 800, dtype=np.int32)) == 2
    assert detector.channel_fit(np.arange(0, 2560, dtype=np.int32)) == 2  # planes that follow each other
    assert detector.channel_fit(np.array([1, 2, 3], np.int32)) == 0
    assert detector.channel_fit(np.array([799, 0, 0], np.int32)) == 2  # in any order
    assert detector.channel_fit(np.array([], np.int32)) == 0


def test_the_older_numbering_can_be_asked_for_by_name() -> None:
    assert [d.name for d in numberings(load_detector("protodune-vd"))] == ["protodune-vd", "protodune-vd-v1"]
    assert [d.name for d in numberings(load_detector("protodune-vd-v1"))] == ["protodune-vd-v1"]
    assert [d.name for d in numberings(load_detector("protodune-sp"))] == ["protodune-sp"]


def test_both_numberings_of_the_vertical_drift_order_collection_wires_alike() -> None:
    """No table of the newer numbering is published: its collection planes must be the old ones, shifted as a whole."""
    newer, older = load_detector("protodune-vd"), load_detector("protodune-vd-v1")
    assert {key for key in older.tables if key[1] == 2} == set(newer.tables)
    assert [unit.tpcs for unit in newer.units] == [unit.tpcs for unit in older.units]
    for (tpc, plane), table in newer.tables.items():
        first = newer.units[newer.unit_of_tpc(tpc)].channels[plane][0]
        first_older = older.units[older.unit_of_tpc(tpc)].channels[plane][0]
        np.testing.assert_array_equal(table - first, older.tables[tpc, plane] - first_older)
