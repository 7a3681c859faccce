"""Proving that a dataset is what its records say, by reading everything again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from protosonic.dataset.accounting import totals
from protosonic.dataset.merge import event_runs
from protosonic.dataset.schema import ACCOUNTING_SCHEMA, BACKENDS, HITS_SCHEMA, SORT_KEYS, schema_fingerprint
from protosonic.dataset.scores import footer_of
from protosonic.errors import DataError
from protosonic.publish import sha256_of, sha256_of_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["verify_dataset"]

SCORES = ("track", "em", "none", "michel")
TOLERANCE = 1e-6
GIVEN_UP = ("job-failed:", "not-done:")
"""Reasons of the events of partitions that were not done when the campaign was closed."""

EventKey = tuple[int, int, int]


def verify_dataset(results: Path) -> list[str]:
    """Read a dataset again and list everything that is wrong with it.

    Proves, when the list is empty: every planned event is either done or quarantined, with a reason; every hit of
    every done event is there once, and no other; scores are finite and between 0 and 1; rows are sorted; files are
    byte for byte those that were published; totals and provenance agree everywhere.

    Parameters
    ----------
    results
        Folder with ``campaign.json``, ``accounting.parquet`` and ``hits/``.
    """
    try:
        content = json.loads((results / "campaign.json").read_text(encoding="utf-8"))
        campaign = _Campaign.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        return [f"campaign.json: cannot be read: {where}: {first['msg'].lower()}"]
    except (OSError, ValueError) as error:
        return [f"campaign.json: cannot be read: {error}"]
    problems = list(_check_files(results, campaign))
    if problems:
        return problems
    accounting = pq.read_table(results / campaign.dataset.accounting.file)
    problems += _check_accounting(accounting, campaign)
    problems += _check_totals(accounting, campaign)
    problems += _check_failed_partitions(accounting, campaign)
    problems += _check_hits(results, campaign.dataset.files, accounting)
    return problems


class _File(BaseModel):
    file: str
    sha256: str
    rows: int | None = None


class _Dataset(BaseModel):
    files: tuple[_File, ...]
    accounting: _File


class _Acceptance(BaseModel):
    max_quarantined_fraction: float
    accepted: bool


class _FailedPartition(BaseModel):
    partition: str
    events: int


class _Campaign(BaseModel):
    """What has to be known of ``campaign.json``."""

    provenance: dict[str, Any]
    failed_partitions: tuple[_FailedPartition, ...] = ()
    totals: dict[str, Any]
    acceptance: _Acceptance
    dataset: _Dataset


def _check_files(results: Path, campaign: _Campaign) -> Iterator[str]:
    entries = [*campaign.dataset.files, campaign.dataset.accounting]
    named = {entry.file for entry in entries}
    for path in sorted(results.glob("hits/**/*")):
        name = path.relative_to(results).as_posix()
        # Readers of Parquet datasets pass over hidden files, such as Snakemake's time stamp of the folder.
        if name not in named and not path.is_dir() and not path.name.startswith("."):
            yield f"{name}: campaign.json does not name this file"
    digest = sha256_of_json(campaign.provenance)
    for entry in entries:
        path = results / entry.file
        if not path.is_file():
            yield f"{entry.file}: missing"
        elif sha256_of(path) != entry.sha256:
            yield f"{entry.file}: its bytes are not those that were published (SHA-256 differs)"
        else:
            schema = ACCOUNTING_SCHEMA if entry is campaign.dataset.accounting else HITS_SCHEMA
            yield from _check_head(path, entry, schema, digest)


def _check_head(path: Path, entry: _File, schema: pa.Schema, digest: str) -> Iterator[str]:
    try:
        footer = footer_of(path)
        with pq.ParquetFile(path) as file:
            if schema_fingerprint(file.schema_arrow) != schema_fingerprint(schema):
                yield f"{entry.file}: the columns are not those of the dataset"
            if entry.rows not in {None, file.metadata.num_rows}:
                yield f"{entry.file}: {file.metadata.num_rows} rows, but campaign.json says {entry.rows}"
    except (DataError, OSError, pa.ArrowException) as error:
        yield f"{entry.file}: cannot be read: {error}"
        return
    if footer.get("provenance_sha256") != digest:
        yield f"{entry.file}: its provenance is not that of campaign.json"


def _check_accounting(accounting: pa.Table, campaign: _Campaign) -> Iterator[str]:
    seen: dict[EventKey, str] = {}
    known_files = {entry["file_id"] for entry in campaign.provenance["inputs"]}
    for row in accounting.to_pylist():
        where = f"accounting: {row['file']}" + ("" if row["entry"] is None else f" entry {row['entry']}")
        if row["state"] not in {"done", "quarantined"}:
            yield f"{where}: unknown state '{row['state']}'"
            continue
        if row["file_id"] not in known_files:
            yield f"{where}: file_id {row['file_id']} is not an input of the campaign"
        backends = sum(row[f"hits_{name}"] for name in BACKENDS)
        expected = row["hits_planned"] if row["state"] == "done" else 0
        if row["hits_done"] != expected or backends != expected:
            yield f"{where}: {row['state']} with {expected} hits to account for, but {row['hits_done']} done"
        if row["state"] == "quarantined" and not row["reason"]:
            yield f"{where}: quarantined without a reason"
        if row["state"] == "done":
            key = (row["run"], row["subrun"], row["event"])
            if key in seen:
                yield f"{where}: run {key[0]} subrun {key[1]} event {key[2]} is done twice (also {seen[key]})"
            seen[key] = where


def _check_totals(accounting: pa.Table, campaign: _Campaign) -> Iterator[str]:
    summary = totals(accounting)
    for name, value in summary.items():
        if campaign.totals.get(name) != value:
            yield f"campaign.json: totals.{name} is {campaign.totals.get(name)}, but the accounting says {value}"
    accepted = summary["quarantined_fraction"] <= campaign.acceptance.max_quarantined_fraction
    if campaign.acceptance.accepted != accepted:
        yield f"campaign.json: acceptance.accepted is {campaign.acceptance.accepted}, but should be {accepted}"


def _check_failed_partitions(accounting: pa.Table, campaign: _Campaign) -> Iterator[str]:
    """Compare the partitions that a closed campaign gave up with the events that were quarantined for it."""
    expected = {entry.partition: entry.events for entry in campaign.failed_partitions}
    found: dict[str, int] = {}
    for row in accounting.select(["partition", "state", "reason"]).to_pylist():
        name = row["partition"]
        is_given_up = row["state"] == "quarantined" and (row["reason"] or "").startswith(GIVEN_UP)
        if name is not None and is_given_up:
            found[name] = found.get(name, 0) + 1
        elif name in expected:
            yield f"accounting: an event of partition {name} is {row['state']}, but campaign.json gave it up"
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name, 0) != found.get(name, 0):
            yield (
                f"partition {name}: campaign.json gave up {expected.get(name, 0)} events, "
                f"the accounting {found.get(name, 0)}"
            )


def _check_hits(results: Path, files: Sequence[_File], accounting: pa.Table) -> Iterator[str]:
    expected = {
        (row["run"], row["subrun"], row["event"]): row
        for row in accounting.to_pylist()
        if row["state"] == "done" and row["hits_done"]
    }
    found: dict[EventKey, dict[str, int]] = {}
    last: tuple[int, ...] | None = None
    for entry in files:
        with pq.ParquetFile(results / entry.file) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                where = f"{entry.file} row group {group}"
                yield from _check_order(table, last, where)
                if len(table):
                    last = tuple(table[name][-1].as_py() for name in SORT_KEYS)
                yield from _check_scores(table, where)
                yield from _count(table, expected, found, where)
    for key, row in expected.items():
        where = "run {} subrun {} event {}".format(*key)
        counts = found.get(key, {})
        for name in BACKENDS:
            if counts.get(name, 0) != row[f"hits_{name}"]:
                yield f"{where}: {counts.get(name, 0)} hits by {name}, accounting says {row[f'hits_{name}']}"


def _check_order(table: pa.Table, last: tuple[int, ...] | None, where: str) -> Iterator[str]:
    keys = [table[name].to_numpy().astype(np.int64) for name in SORT_KEYS]
    if not len(table):
        return
    if last is not None:
        keys = [np.concatenate(([value], column)) for value, column in zip(last, keys, strict=True)]
    rising = np.zeros(len(keys[0]) - 1, dtype=bool)
    equal = np.ones_like(rising)
    for column in keys:
        step = np.diff(column)
        rising |= equal & (step > 0)
        equal &= step == 0
    if not rising.all():
        row = int(np.flatnonzero(~rising)[0]) + 1
        what = "given twice" if equal[row - 1] else "out of order"
        numbers = ", ".join(f"{name} {column[row]}" for name, column in zip(SORT_KEYS, keys, strict=True))
        yield f"{where}: {numbers} is {what} ({int((~rising).sum())} such rows)"


def _check_scores(table: pa.Table, where: str) -> Iterator[str]:
    for name in SCORES:
        values = table[name].to_numpy()
        bad = ~((values >= -TOLERANCE) & (values <= 1 + TOLERANCE))
        if bad.any():
            yield f"{where}: {int(bad.sum())} scores {name} are not between 0 and 1, the first is {values[bad][0]}"


def _count(
    table: pa.Table, expected: dict[EventKey, Any], found: dict[EventKey, dict[str, int]], where: str
) -> Iterator[str]:
    backend = table["backend"].to_numpy(zero_copy_only=False)
    file_id = table["file_id"].to_numpy(zero_copy_only=False)
    for key, start, stop in event_runs([table[name].to_numpy() for name in SORT_KEYS[:3]]):
        row = expected.get(key)
        if row is None:
            yield f"{where}: run {key[0]} subrun {key[1]} event {key[2]} has hits but is not accounted for as done"
            continue
        if np.any(file_id[start:stop] != row["file_id"]):
            yield f"{where}: run {key[0]} subrun {key[1]} event {key[2]} is not from file {row['file_id']}"
        names, counts = np.unique(backend[start:stop].astype(str), return_counts=True)
        total = found.setdefault(key, {})
        for name, count in zip(names.tolist(), counts.tolist(), strict=True):
            total[name] = total.get(name, 0) + count
