"""Reading parts of a finished dataset."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from protosonic.dataset.read import iterate_hits, read_event


def test_event_is_read_by_its_position_among_those_with_hits(finished):
    hits = finished.hits()
    for position, number in enumerate((1, 2, 3)):
        expected = hits.filter(pc.equal(hits["event"], number))
        event = read_event(finished.results, position)
        assert list(event) == hits.column_names
        assert len(event["hit"]) == len(expected) > 0
        for name in ("event", "hit", "wire", "track", "michel"):
            np.testing.assert_array_equal(event[name], expected[name].to_numpy())


def test_position_behind_the_last_event_gives_nothing(finished):
    assert read_event(finished.results, 3) == {}


def test_all_hits_are_iterated_over_once_with_the_wanted_columns(finished):
    batches = list(iterate_hits(finished.results, ["event", "hit"]))
    assert {tuple(batch.schema.names) for batch in batches} == {("event", "hit")}
    found = {row for batch in batches for row in zip(*batch.to_pydict().values(), strict=True)}
    assert sum(map(len, batches)) == len(found) == len(finished.hits())
