"""When a run is stopped because everything fails."""

from __future__ import annotations

import json

import pytest

from protosonic.campaign.brake import Brake
from protosonic.campaign.layout import Layout


@pytest.fixture
def layout(tmp_path) -> Layout:
    return Layout("demo", tmp_path)


def write(layout: Layout, name: str, state: str) -> None:
    path = layout.status(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"state": state}))


def test_it_is_pulled_when_the_first_partitions_all_fail(layout):
    brake = Brake(layout, 2)
    assert not brake.is_pulled()
    write(layout, "a", "failed")
    assert not brake.is_pulled()
    write(layout, "b", "failed")
    assert brake.is_pulled()
    assert (brake.failed, brake.was_pulled) == (2, True)


def test_one_partition_that_is_done_releases_it_for_good(layout):
    brake = Brake(layout, 2)
    write(layout, "a", "failed")
    write(layout, "b", "done")
    for name in "cdef":
        assert not brake.is_pulled()
        write(layout, name, "failed")
    assert not brake.was_pulled


def test_partitions_that_failed_before_do_not_count(layout):
    write(layout, "a", "failed")
    write(layout, "b", "failed")
    brake = Brake(layout, 2)
    assert not brake.is_pulled()
    write(layout, "c", "failed")
    assert not brake.is_pulled()
    write(layout, "d", "failed")
    assert brake.is_pulled()


def test_partitions_that_were_done_before_show_that_the_campaign_can_work(layout):
    write(layout, "a", "done")
    brake = Brake(layout, 1)
    write(layout, "b", "failed")
    assert not brake.is_pulled()


def test_a_status_that_is_being_written_is_looked_at_later(layout):
    brake = Brake(layout, 1)
    layout.status("a").parent.mkdir(parents=True)
    layout.status("a").write_text("{")
    assert not brake.is_pulled()
    write(layout, "a", "failed")
    assert brake.is_pulled()
