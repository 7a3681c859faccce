"""Verification finds whatever was done to a finished dataset, and says where."""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from protosonic.dataset.verification import verify_dataset
from protosonic.publish import sha256_of

PART = "hits/part-00001.parquet"
ACCOUNTING = "accounting.parquet"


def with_column(table: pa.Table, name: str, values) -> pa.Table:
    field = table.schema.field(name)
    return table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))


def with_value(name: str, row: int, value):
    """Change one value of a column."""

    def change(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        values[row] = value
        return with_column(table, name, values)

    return change


def without_row(row: int):
    return lambda table: pa.concat_tables([table.slice(0, row), table.slice(row + 1)])


def event_of(campaign, row: int) -> str:
    table = pq.read_table(campaign.results / PART)
    return "run {} subrun {} event {}".format(*(table[name][row] for name in ("run", "subrun", "event")))


def test_untouched_dataset_has_no_problems(finished):
    assert verify_dataset(finished.results) == []


@pytest.mark.parametrize("name", [PART, ACCOUNTING])
def test_flipped_bit_is_found(campaign, name):
    path = campaign.results / name
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)
    assert verify_dataset(campaign.results) == [
        f"{name}: its bytes are not those that were published (SHA-256 differs)"
    ]


@pytest.mark.parametrize("name", [PART, ACCOUNTING])
def test_truncated_file_is_found(campaign, name):
    path = campaign.results / name
    path.write_bytes(path.read_bytes()[:-10])
    assert verify_dataset(campaign.results) == [
        f"{name}: its bytes are not those that were published (SHA-256 differs)"
    ]


@pytest.mark.parametrize("name", [PART, ACCOUNTING])
def test_missing_file_is_found(campaign, name):
    (campaign.results / name).unlink()
    assert verify_dataset(campaign.results) == [f"{name}: missing"]


@pytest.mark.parametrize(
    "name", ["part-00099.parquet", "part-00000.parquet.bak", "deep/x.parquet", "notes.txt"]
)
def test_file_that_is_not_part_of_the_dataset_is_found(campaign, name):
    path = campaign.layout.hits / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((campaign.results / PART).read_bytes())
    assert verify_dataset(campaign.results) == [f"hits/{name}: campaign.json does not name this file"]


def test_hidden_file_of_the_workflow_is_no_problem(campaign):
    (campaign.layout.hits / ".snakemake_timestamp").touch()
    assert verify_dataset(campaign.results) == []


def test_all_damaged_files_are_named_at_once(campaign):
    (campaign.results / PART).unlink()
    (campaign.results / ACCOUNTING).write_bytes(b"")
    assert len(verify_dataset(campaign.results)) == 2


def test_lost_hit_is_found(campaign):
    event = event_of(campaign, 5)
    campaign.rewrite(PART, without_row(5))
    [problem] = verify_dataset(campaign.results)
    assert problem.startswith(f"{event}: ")
    assert "hits by onnxruntime, accounting says" in problem


def test_doubled_hit_is_found(campaign):
    event = event_of(campaign, 5)
    hit = pq.read_table(campaign.results / PART)["hit"][5]
    numbers = event.replace(" subrun", ", subrun").replace(" event", ", event")
    campaign.rewrite(PART, lambda table: pa.concat_tables([table.slice(0, 6), table.slice(5)]))
    order, count = verify_dataset(campaign.results)
    assert order == f"{PART} row group 0: {numbers}, hit {hit} is given twice (1 such rows)"
    assert count.startswith(f"{event}: ")


def test_hit_that_two_files_hold_is_found(campaign):
    last = pq.read_table(campaign.results / "hits/part-00000.parquet").slice(59)
    campaign.rewrite(PART, lambda table: pa.concat_tables([last, table]))
    order, _ = verify_dataset(campaign.results)
    assert order.startswith(f"{PART} row group 0: run 1, subrun 0, event ")
    assert order.endswith(f"hit {last['hit'][0]} is given twice (1 such rows)")


def test_hit_that_took_the_place_of_another_is_found(campaign):
    campaign.rewrite(
        PART, lambda table: pa.concat_tables([table.slice(0, 5), table.slice(4, 1), table.slice(6)])
    )
    [problem] = verify_dataset(campaign.results)
    assert "is given twice (1 such rows)" in problem


def test_swapped_rows_are_found(campaign):
    campaign.rewrite(PART, lambda table: table.take([1, 0, *range(2, len(table))]))
    [problem] = verify_dataset(campaign.results)
    assert problem.startswith(f"{PART} row group 0: run 1, subrun 0, event ")
    assert problem.endswith("is out of order (1 such rows)")


def test_swapped_files_are_found(campaign):
    files = sorted(campaign.layout.hits.iterdir())
    contents = [path.read_bytes() for path in files]
    for path, content in zip(files, contents[::-1], strict=True):
        path.write_bytes(content)
    with campaign.edited_campaign() as content:
        entries = content["dataset"]["files"]
        for entry, other in zip([dict(entry) for entry in entries], entries[::-1], strict=True):
            other["sha256"], other["rows"] = entry["sha256"], entry["rows"]
    problems = verify_dataset(campaign.results)
    assert problems
    assert all("is out of order" in problem for problem in problems)


@pytest.mark.parametrize("name", ["track", "em", "none", "michel"])
@pytest.mark.parametrize(("value", "shown"), [(1.5, "1.5"), (-0.5, "-0.5"), (np.nan, "nan"), (np.inf, "inf")])
def test_score_that_is_none_is_found(campaign, name, value, shown):
    campaign.rewrite(PART, with_value(name, 3, value))
    assert verify_dataset(campaign.results) == [
        f"{PART} row group 0: 1 scores {name} are not between 0 and 1, the first is {shown}"
    ]


@pytest.mark.parametrize("value", [0.0, 1.0, 1.0 + 5e-7, -5e-7])
def test_score_at_the_end_of_the_range_is_no_problem(campaign, value):
    campaign.rewrite(PART, with_value("track", 3, value))
    assert verify_dataset(campaign.results) == []


def test_hits_of_an_event_that_is_not_accounted_for_are_found(campaign):
    campaign.rewrite(PART, with_value("event", -1, 77))
    problems = verify_dataset(campaign.results)
    assert any("run 1 subrun 0 event 77 has hits but is not accounted for as done" in p for p in problems)


def test_hits_of_another_file_are_found(campaign):
    event = event_of(campaign, 3)
    campaign.rewrite(PART, with_value("file_id", 3, "0" * 16))
    [problem] = verify_dataset(campaign.results)
    assert problem.startswith(f"{PART} row group 0: {event} is not from file ")


@pytest.mark.parametrize("backend", ["triton", "abacus"])
def test_hits_of_another_backend_are_found(campaign, backend):
    campaign.rewrite(PART, with_value("backend", 3, backend))
    problems = verify_dataset(campaign.results)
    assert any("hits by onnxruntime, accounting says" in problem for problem in problems)


def test_file_with_other_columns_is_found(campaign):
    campaign.rewrite(PART, lambda table: table.drop_columns(["michel"]))
    assert verify_dataset(campaign.results) == [f"{PART}: the columns are not those of the dataset"]


def test_file_without_provenance_is_found(campaign):
    campaign.rewrite(PART, lambda table: table.replace_schema_metadata({}))
    [problem] = verify_dataset(campaign.results)
    assert problem.startswith(f"{PART}: cannot be read: ")
    assert "not a Parquet file with provenance" in problem


def test_file_that_is_not_parquet_is_found(campaign):
    (campaign.results / PART).write_text("text")
    with campaign.edited_campaign() as content:
        content["dataset"]["files"][1]["sha256"] = sha256_of(campaign.results / PART)
    [problem] = verify_dataset(campaign.results)
    assert problem.startswith(f"{PART}: cannot be read: ")


def test_rows_that_differ_from_the_campaign_file_are_found(campaign):
    with campaign.edited_campaign() as content:
        content["dataset"]["files"][1]["rows"] += 1
    assert verify_dataset(campaign.results) == [f"{PART}: 60 rows, but campaign.json says 61"]


def test_provenance_that_was_changed_is_found_in_every_file(campaign):
    with campaign.edited_campaign() as content:
        content["provenance"]["model"]["sha256"] = "0" * 64
        files = [entry["file"] for entry in content["dataset"]["files"]]
    assert verify_dataset(campaign.results) == [
        f"{name}: its provenance is not that of campaign.json" for name in [*files, ACCOUNTING]
    ]


# Rows of the accounting: 0 a file that could not be read, 1 to 3 done, 4 quarantined.
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_value("hits_done", 2, 1), "entry 1: done with .* hits to account for, but 1 done"),
        (with_value("hits_planned", 2, 1), "entry 1: done with 1 hits to account for, but .* done"),
        (with_value("hits_onnxruntime", 2, 1), "entry 1: done with .* hits to account for"),
        (with_value("hits_triton", 2, 1), "entry 1: done with .* hits to account for"),
        (with_value("hits_done", 4, 1), "entry 1: quarantined with 0 hits to account for, but 1 done"),
        (with_value("reason", 4, None), "entry 1: quarantined without a reason"),
        (with_value("reason", 0, ""), r"empty\.h5: quarantined without a reason"),
        (with_value("state", 1, "lost"), "entry 0: unknown state 'lost'"),
        (with_value("event", 2, 1), "entry 1: run 1 subrun 0 event 1 is done twice"),
        (with_value("file_id", 1, "0" * 16), "entry 0: file_id 0{16} is not an input of the campaign"),
        (with_value("event", 2, 99), "event 2 has hits but is not accounted for as done"),
        (without_row(2), "event 2 has hits but is not accounted for as done"),
        (without_row(4), r"campaign\.json: totals\.events_planned is 5, but the accounting says 4"),
        (without_row(0), r"campaign\.json: totals\.events_quarantined is 2, but the accounting says 1"),
    ],
)
def test_changed_accounting_is_found(campaign, change, message):
    campaign.rewrite(ACCOUNTING, change)
    problems = verify_dataset(campaign.results)
    assert any(re.search(message, problem) for problem in problems), problems


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("events_planned", 6),
        ("events_done", 4),
        ("events_quarantined", 1),
        ("hits_done", 1),
        ("hits_by_backend", {"triton": 1, "onnxruntime": 1}),
        ("quarantined_fraction", 0.0),
    ],
)
def test_changed_total_is_found(campaign, name, value):
    with campaign.edited_campaign() as content:
        content["totals"][name] = value
    [problem] = verify_dataset(campaign.results)
    assert problem.startswith(f"campaign.json: totals.{name} is {value}, but the accounting says ")


def test_changed_verdict_is_found(campaign):
    with campaign.edited_campaign() as content:
        content["acceptance"]["accepted"] = True
    assert verify_dataset(campaign.results) == [
        "campaign.json: acceptance.accepted is True, but should be False"
    ]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", "{}", '{"dataset": []}', '{"dataset": {"files": [{}], "accounting": {}}}']
)
def test_damaged_campaign_file_is_found(campaign, content):
    campaign.layout.campaign.write_text(content)
    [problem] = verify_dataset(campaign.results)
    assert problem.startswith("campaign.json: cannot be read: ")
    assert "\n" not in problem


@pytest.mark.parametrize("section", ["provenance", "totals", "acceptance", "dataset"])
def test_campaign_file_without_a_section_is_found(campaign, section):
    with campaign.edited_campaign() as content:
        del content[section]
    assert verify_dataset(campaign.results) == [f"campaign.json: cannot be read: {section}: field required"]


def test_folder_without_a_campaign_file_is_found(tmp_path):
    [problem] = verify_dataset(tmp_path)
    assert problem.startswith("campaign.json: cannot be read: ")
    assert json.dumps(str(tmp_path))[1:-1] in problem
