"""The schemas are a public contract."""

from __future__ import annotations

import pyarrow as pa
import pytest

from protosonic.dataset.schema import ACCOUNTING_SCHEMA, BACKENDS, HITS_SCHEMA, SORT_KEYS, schema_fingerprint

BASE = pa.schema([pa.field("a", pa.int32(), nullable=False), pa.field("b", pa.float32())])


def test_columns_of_hits_are_those_of_the_contract():
    assert HITS_SCHEMA.names == [
        *("run", "subrun", "event", "hit", "cryostat", "tpc", "plane", "wire", "channel"),
        *("peak_time", "rms", "peak_amplitude", "integral"),
        *("track", "em", "none", "michel"),
        *("in_fiducial", "duplicate_patch", "wire_space", "backend", "file_id"),
    ]
    assert tuple(HITS_SCHEMA.names[:4]) == SORT_KEYS
    assert {HITS_SCHEMA.field(name).type for name in ("track", "em", "none", "michel")} == {pa.float32()}


@pytest.mark.parametrize("schema", [HITS_SCHEMA, ACCOUNTING_SCHEMA])
def test_every_column_has_a_unit_and_a_description(schema):
    for field in schema:
        assert field.metadata.keys() == {b"unit", b"description"}
        assert field.metadata[b"description"]


def test_hits_are_never_null_and_accounting_only_where_nothing_is_known():
    assert not any(field.nullable for field in HITS_SCHEMA)
    nullable = {field.name for field in ACCOUNTING_SCHEMA if field.nullable}
    places = {"entry", "run", "subrun", "event", "partition"}
    assert nullable == places | {"reason", "endpoints", "model_versions", "fallback"}


def test_accounting_counts_the_hits_of_every_backend():
    assert {f"hits_{name}" for name in BACKENDS} <= set(ACCOUNTING_SCHEMA.names)


@pytest.mark.parametrize(
    "other",
    [
        BASE.set(0, pa.field("c", pa.int32(), nullable=False)),
        BASE.set(0, pa.field("a", pa.int64(), nullable=False)),
        BASE.set(0, pa.field("a", pa.int32())),
        BASE.remove(0),
        pa.schema([BASE.field(1), BASE.field(0)]),
    ],
)
def test_fingerprint_changes_with_names_types_nullability_and_order(other):
    assert schema_fingerprint(other) != schema_fingerprint(BASE)


def test_fingerprint_does_not_depend_on_metadata():
    described = BASE.set(1, BASE.field(1).with_metadata({"unit": "tick"})).with_metadata({"x": "y"})
    assert schema_fingerprint(described) == schema_fingerprint(BASE)
