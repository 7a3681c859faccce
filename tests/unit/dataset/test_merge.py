"""Merging scores: the result depends on the rows alone, and nothing wrong gets in."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protosonic.dataset.merge import EventRows, merge_scores
from protosonic.dataset.schema import HITS_SCHEMA
from protosonic.dataset.scores import footer_of
from protosonic.errors import VerificationError

keys = st.tuples(st.integers(1, 2), st.integers(0, 1), st.integers(1, 50))
events_of = st.dictionaries(keys, st.integers(0, 15), max_size=8)


@pytest.fixture(scope="session")
def merge(make_table, write_scores, tmp_path_factory):
    """Merge events that are spread over scores files and row groups by chance."""

    def run(events, chance, **sizes) -> tuple[list[tuple[Path, int]], Path]:
        folder = tmp_path_factory.mktemp("merge")
        order = list(events)
        chance.shuffle(order)
        places, rows = {}, []
        for key in order:
            places.setdefault(chance.randrange(4), []).append(key)
        for number, members in places.items():
            groups = []
            for key in members:
                rows.append(EventRows(key, events[key], folder / f"{number}.parquet"))
                if groups and chance.random() < 0.5:
                    groups[-1].append(make_table(key, events[key]))
                else:
                    groups.append([make_table(key, events[key])])
            write_scores(folder / f"{number}.parquet", [pa.concat_tables(group) for group in groups])
        (folder / "hits").mkdir()
        return merge_scores(rows, folder / "hits", footer={"a": 1}, **sizes)

    return run


@given(events=events_of, target=st.integers(3, 60), group=st.integers(1, 30), chance=st.randoms())
@settings(max_examples=60)
def test_result_is_all_rows_sorted_in_files_and_row_groups_of_the_set_size(
    make_table, merge, events, target, group, chance
):
    files = merge(events, chance, target_rows=target, row_group_rows=group)
    expected = pa.concat_tables(
        [HITS_SCHEMA.empty_table(), *(make_table(k, events[k]) for k in sorted(events))]
    )
    assert pa.concat_tables(pq.read_table(path) for path, _ in files).equals(expected)
    assert [rows for _, rows in files] == (cut(len(expected), target) or [0])
    assert [path.name for path, _ in files] == [f"part-{n:05d}.parquet" for n in range(len(files))]
    for path, rows in files:
        metadata = pq.read_metadata(path)
        found = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        assert found == (cut(rows, group) or [0])


def cut(total: int, size: int) -> list[int]:
    """Sizes of pieces: all of the set size but the last."""
    return [min(size, total - n * size) for n in range(math.ceil(total / size))]


@given(events=events_of, chance=st.randoms())
@settings(max_examples=40)
def test_files_are_byte_for_byte_equal_however_the_events_are_partitioned(merge, events, chance):
    first, second = (merge(events, chance, target_rows=40, row_group_rows=15) for _ in range(2))
    assert [path.read_bytes() for path, _ in first] == [path.read_bytes() for path, _ in second]


@pytest.mark.parametrize("n_events", [0, 2])
def test_dataset_without_hits_is_one_readable_empty_file(tmp_path, write_scores, n_events):
    scores = write_scores(tmp_path / "s.parquet", [])
    (tmp_path / "hits").mkdir()
    events = [EventRows((1, 0, number), 0, scores) for number in range(n_events)]
    files = merge_scores(events, tmp_path / "hits", target_rows=10, row_group_rows=10, footer={})
    assert [(path.name, rows) for path, rows in files] == [("part-00000.parquet", 0)]
    table = pq.read_table(files[0][0])
    assert (len(table), table.schema.equals(HITS_SCHEMA)) == (0, True)


def test_footer_of_every_file_carries_the_provenance(merge):
    files = merge({(1, 0, 1): 25}, random.Random(1), target_rows=10, row_group_rows=10)
    assert [footer_of(path) for path, _ in files] == [{"a": 1}] * 3


FIRST, SECOND = (1, 0, 1), (1, 0, 2)


@pytest.fixture
def merge_two(tmp_path, make_table, write_scores):
    """Merge two events of five hits, after one thing was changed in what the scores file holds or should hold."""

    def run(tables=None, events=None) -> None:
        good = [make_table(FIRST, 5), make_table(SECOND, 5)]
        scores = write_scores(tmp_path / "s.parquet", good if tables is None else tables)
        expected = [EventRows(key, hits, scores) for key, hits in events or [(FIRST, 5), (SECOND, 5)]]
        (tmp_path / "hits").mkdir()
        merge_scores(expected, tmp_path / "hits", target_rows=100, row_group_rows=100, footer={})

    return run


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"hit": [0, 1, 2, 2, 4]}, "a hit of an event is given twice or out of order"),
        ({"hit": [0, 1, 3, 2, 4]}, "a hit of an event is given twice or out of order"),
        ({"track": [0.5, np.nan, 0.5, 0.5, 0.5]}, "a score track is not finite"),
        ({"em": [0.5, 0.5, 0.5, 0.5, np.inf]}, "a score em is not finite"),
        ({"none": [-np.inf, 0.5, 0.5, 0.5, 0.5]}, "a score none is not finite"),
        ({"michel": [np.nan] * 5}, "a score michel is not finite"),
    ],
)
def test_wrong_rows_are_refused_with_their_event(merge_two, make_table, columns, message):
    with pytest.raises(VerificationError, match=rf"s\.parquet: run 1 subrun 0 event 2: {message}"):
        merge_two([make_table(FIRST, 5), make_table(SECOND, 5, **columns)])


@pytest.mark.parametrize("n", [4, 6])
def test_other_number_of_hits_is_refused(merge_two, make_table, n):
    with pytest.raises(VerificationError, match=rf"event 2: .*number of hits \(expected 5, found {n}\)"):
        merge_two([make_table(FIRST, 5), make_table(SECOND, n)])


def test_hits_of_an_event_that_should_have_none_are_refused(merge_two):
    with pytest.raises(VerificationError, match=r"event 2: .*number of hits \(expected 0, found 5\)"):
        merge_two(events=[(FIRST, 5), (SECOND, 0)])


def test_missing_event_is_refused(merge_two, make_table):
    with pytest.raises(VerificationError, match=r"s\.parquet: \(1, 0, 2\): an event is missing"):
        merge_two([make_table(FIRST, 5)])


def test_event_that_was_not_announced_is_refused(merge_two):
    with pytest.raises(VerificationError, match=r"s\.parquet: \(1, 0, 2\): .*its status does not name"):
        merge_two(events=[(FIRST, 5)])


def test_event_that_is_announced_twice_is_refused(merge_two):
    with pytest.raises(VerificationError, match=r"\(1, 0, 1\): an event is given twice"):
        merge_two(events=[(FIRST, 5), (SECOND, 5), (FIRST, 5)])


@pytest.mark.parametrize("between", [0, 1])
def test_event_in_two_pieces_is_refused(merge_two, make_table, between):
    first = make_table(FIRST, 5)
    pieces = [first.slice(0, 2), *[make_table(SECOND, 5)] * between, first.slice(2)]
    with pytest.raises(VerificationError, match=r"\(1, 0, 1\): the rows of an event are not together"):
        merge_two(pieces)


def test_event_in_two_files_is_refused(tmp_path, make_table, write_scores):
    paths = [write_scores(tmp_path / f"{name}.parquet", [make_table(FIRST, 5)]) for name in "ab"]
    (tmp_path / "hits").mkdir()
    events = [EventRows(FIRST, 5, paths[0]), EventRows(SECOND, 0, paths[1])]
    with pytest.raises(VerificationError, match=r"b\.parquet: \(1, 0, 1\): .*its status does not name"):
        merge_scores(events, tmp_path / "hits", target_rows=10, row_group_rows=10, footer={})


def test_file_with_other_columns_is_refused(tmp_path):
    pq.write_table(pa.table({"run": [1], "hit": [2]}), tmp_path / "s.parquet")
    with pytest.raises(
        VerificationError, match=r"columns are not those of the dataset \(found \['run', 'hit'\]\)"
    ):
        merge_scores(
            [EventRows(FIRST, 1, tmp_path / "s.parquet")],
            tmp_path / "hits",
            target_rows=10,
            row_group_rows=10,
            footer={},
        )
