from __future__ import annotations

import h5py
import numpy as np
import pytest

from protosonic.errors import DataError
from protosonic.events.model import EventId
from protosonic.images.profiles import load_profile
from protosonic.images.unit import UNIT_HIT_FIELDS, UnitReader, UnitWriter, prepare_event

SP = load_profile("protodune-sp-2021")
ALL = (0, 1, 2)


@pytest.fixture
def event(make_event):
    regions = {2080 + wire: [(600 + 6 * wire, [6.0, 12.0])] for wire in range(60)} | {400: [(500, [30.0])]}
    hits = [(1, 2, 10, 661.0), (1, 0, 0, 500.0), (1, 2, 10, 663.0), (2, 2, 3, 100.0), (1, 2, 11, 666.0)]
    return make_event(regions, hits)


def test_preparing_keeps_every_selected_hit_once_with_its_index(event):
    unit = prepare_event(event, SP, ALL)
    assert unit.n_hits == len(event.hits)
    assert sorted(np.concatenate([image.hits["hit"] for image in unit.images]).tolist()) == [0, 1, 2, 3, 4]
    assert prepare_event(event, SP, (2,)).n_hits == 4


def test_images_come_in_order_and_flags_follow_the_processing_order(event):
    unit = prepare_event(event, SP, ALL)
    assert [(image.image.key.tpc, image.image.key.plane) for image in unit.images] == [(1, 0), (1, 2), (2, 2)]
    assert unit.images[1].hits["hit"].tolist() == [0, 2, 4]
    assert unit.images[1].hits["duplicate_patch"].tolist() == [False, True, False]
    assert unit.images[1].hits["in_fiducial"].tolist() == [True, True, True]
    assert unit.images[0].hits["in_fiducial"].tolist() == [False]  # wire 0


def test_a_plane_with_hits_but_without_charge_has_an_empty_image(event):
    image = prepare_event(event, SP, ALL).images[2]
    assert len(image) == 1
    assert len(image.image.pixel) == 0


def test_hits_on_wires_without_a_published_table_are_refused(make_event):
    from dataclasses import replace

    from protosonic.detectors import load_detector

    event = replace(make_event({10: [(0, [1.0])]}, [(0, 0, 5, 10.0)]), detector=load_detector("protodune-vd"))
    with pytest.raises(DataError) as caught:
        prepare_event(event, SP, ALL)
    assert caught.value.code == "no-wire-table"


def test_a_unit_file_gives_back_what_was_written(event, tmp_path):
    from dataclasses import replace

    path = tmp_path / "unit.h5"
    late, early = (
        prepare_event(event, SP, ALL),
        prepare_event(replace(event, id=EventId(1, 0, 0), entry=9), SP, ALL),
    )
    empty = prepare_event(replace(event, id=EventId(2, 0, 0), entry=4), SP, ALL[:0])
    with UnitWriter(path, SP, {"partition": "abc"}) as writer:
        for unit in (late, early, empty):
            writer.write(unit)
        writer.quarantine(EventId(3, 2, 1), 7, "corrupt: something")
    with UnitReader(path) as reader:
        assert reader.profile == SP
        assert reader.header == {"partition": "abc"}
        assert reader.quarantined == [{"id": [3, 2, 1], "entry": 7, "reason": "corrupt: something"}]
        read = list(reader.events())
    assert [(unit.id, unit.entry) for unit in read] == [(early.id, 9), (late.id, 0), (empty.id, 4)]
    assert read[2].images == ()
    for found, written in zip(read[1].images, late.images, strict=True):
        assert found.image.key == written.image.key
        assert (found.image.n_wires, found.image.n_columns) == (
            written.image.n_wires,
            written.image.n_columns,
        )
        np.testing.assert_array_equal(found.image.pixel, written.image.pixel)
        np.testing.assert_array_equal(found.image.value, written.image.value)
        for name, dtype in UNIT_HIT_FIELDS.items():
            assert found.hits[name].dtype == dtype
            np.testing.assert_array_equal(found.hits[name], written.hits[name])


def test_a_unit_file_holds_no_waveforms_and_no_patches(event, tmp_path):
    path = tmp_path / "unit.h5"
    with UnitWriter(path, SP, {}) as writer:
        writer.write(prepare_event(event, SP, ALL))
    names = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    assert {name.split("/")[2] for name in names} == {"images", "pixel", "value", "hits"}


def test_nothing_is_left_when_preparing_fails(tmp_path):
    path = tmp_path / "unit.h5"
    with pytest.raises(RuntimeError, match="stop"), UnitWriter(path, SP, {}):
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []
