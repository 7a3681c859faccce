"""The scores of a partition as Parquet."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protosonic.dataset.schema import HITS_SCHEMA
from protosonic.dataset.scores import ROW_GROUP_ROWS, ScoresWriter, footer_of, hits_table
from protosonic.errors import DataError

NAMES = ("track", "em", "none", "michel")


def columns(order: list[int]) -> dict[str, np.ndarray]:
    """Columns of hits whose wire tells their hit index."""
    hit = np.array(order, np.int64)
    names = ("cryostat", "tpc", "plane", "channel", "peak_time", "rms", "peak_amplitude", "integral")
    return {name: np.zeros(len(hit)) for name in names} | {
        "hit": hit,
        "wire": hit * 10,
        "in_wire_space": hit % 2 == 0,
        "in_fiducial": hit % 3 == 0,
        "duplicate_patch": hit % 5 == 0,
    }


@given(st.permutations(range(12)))
def test_rows_are_in_order_of_the_hit_index_whatever_the_order_of_the_images(order):
    scores = np.array([[hit, hit + 0.25, hit + 0.5, hit + 0.75] for hit in order], np.float32)
    backend = np.array(["triton" if hit < 6 else "onnxruntime" for hit in order], object)
    table = hits_table((1, 2, 3), columns(order), scores, NAMES, backend, "f" * 16)
    assert table.schema.equals(HITS_SCHEMA, check_metadata=True)
    assert table["hit"].to_pylist() == list(range(12))
    assert table["wire"].to_pylist() == [10 * hit for hit in range(12)]
    assert table["michel"].to_pylist() == [hit + 0.75 for hit in range(12)]
    assert table["backend"].to_pylist() == ["triton"] * 6 + ["onnxruntime"] * 6
    assert table["wire_space"].to_pylist() == ["wire", "channel"] * 6
    assert table["in_fiducial"].to_pylist() == [hit % 3 == 0 for hit in range(12)]
    assert {
        tuple(row) for row in zip(*(table[n].to_pylist() for n in ("run", "subrun", "event")), strict=True)
    } == {(1, 2, 3)}
    assert set(table["file_id"].to_pylist()) == {"f" * 16}


def test_scores_are_taken_by_name():
    scores = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    table = hits_table((1, 0, 1), columns([0]), scores, NAMES[::-1], np.array(["triton"], object), "f")
    assert [table[name][0].as_py() for name in NAMES] == pytest.approx([0.4, 0.3, 0.2, 0.1])


def test_event_without_hits_gives_no_rows():
    table = hits_table((1, 0, 1), columns([]), np.empty((0, 4), np.float32), NAMES, np.empty(0, object), "f")
    assert (len(table), table.schema.equals(HITS_SCHEMA)) == (0, True)


def test_row_groups_end_between_events(tmp_path, make_table):
    sizes = [10, ROW_GROUP_ROWS - 20, 30, 5, 2 * ROW_GROUP_ROWS, 1, 0]
    with ScoresWriter(tmp_path / "s.parquet", {}) as writer:
        for number, size in enumerate(sizes):
            writer.write(make_table((1, 0, number), size))
        assert writer.rows == sum(sizes)
    with pq.ParquetFile(tmp_path / "s.parquet") as file:
        found = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        assert found == [sum(sizes[:3]), sum(sizes[3:5]), 1]
        table = file.read()
    expected = pa.concat_tables(make_table((1, 0, number), size) for number, size in enumerate(sizes))
    assert table.equals(expected)


def test_partition_without_hits_gives_a_readable_empty_file(tmp_path):
    with ScoresWriter(tmp_path / "s.parquet", {"partition": "p"}):
        pass
    table = pq.read_table(tmp_path / "s.parquet")
    assert (len(table), table.schema.equals(HITS_SCHEMA)) == (0, True)


def write_and_stop(path, table) -> None:
    with ScoresWriter(path, {}) as writer:
        writer.write(table)
        raise RuntimeError("stop")


def test_writer_that_is_stopped_leaves_nothing(tmp_path, make_table):
    with pytest.raises(RuntimeError, match="stop"):
        write_and_stop(tmp_path / "s.parquet", make_table((1, 0, 1), 5))
    assert list(tmp_path.iterdir()) == []


def write_columns_that_are_not_ours(path) -> None:
    with ScoresWriter(path, {}) as writer:
        writer.write(pa.table({"x": [1]}))


def test_writer_that_cannot_finish_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="schema"):
        write_columns_that_are_not_ours(tmp_path / "s.parquet")
    assert list(tmp_path.iterdir()) == []


def test_footer_is_read_back(tmp_path):
    footer = {"partition": "p", "deep": {"list": [1, None, "ü"]}}
    with ScoresWriter(tmp_path / "s.parquet", footer):
        pass
    assert footer_of(tmp_path / "s.parquet") == footer


def test_file_without_our_footer_is_refused(tmp_path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("text")
    for name in ("other.parquet", "text.parquet", "none.parquet"):
        with pytest.raises(DataError, match=rf"{name}: not a Parquet file with provenance"):
            footer_of(tmp_path / name)
