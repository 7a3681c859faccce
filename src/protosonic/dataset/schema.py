"""Arrow schemas of the dataset; docs/outputs.md describes every column."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ACCOUNTING_SCHEMA", "BACKENDS", "HITS_SCHEMA", "SORT_KEYS", "WIRE_SPACES", "schema_fingerprint"]

SORT_KEYS = ("run", "subrun", "event", "hit")
BACKENDS = ("triton", "onnxruntime")
WIRE_SPACES = ("channel", "wire")
"""Values of the column ``wire_space``; the index is whether the hit is in wire space."""

Column = tuple[str, pa.DataType, str, str]


def _schema(columns: Iterable[Column], nullable: frozenset[str] = frozenset()) -> pa.Schema:
    return pa.schema(
        pa.field(name, dtype, nullable=name in nullable, metadata={"unit": unit, "description": description})
        for name, dtype, unit, description in columns
    )


HITS_SCHEMA = _schema(
    [
        ("run", pa.int64(), "", "run number"),
        ("subrun", pa.int64(), "", "subrun number"),
        ("event", pa.int64(), "", "event number"),
        ("hit", pa.int32(), "", "index of the hit in its event's collection (art key)"),
        ("cryostat", pa.int16(), "", "geo::WireID cryostat"),
        ("tpc", pa.int16(), "", "geo::WireID TPC; in channel space the lowest TPC of the readout unit"),
        ("plane", pa.int8(), "", "geo::WireID plane: 0 U, 1 V, 2 W"),
        (
            "wire",
            pa.int32(),
            "",
            "geo::WireID wire; in channel space the channel counted from the plane's first",
        ),
        ("channel", pa.int32(), "", "raw::ChannelID_t"),
        ("peak_time", pa.float32(), "tick", "recob::Hit::PeakTime"),
        ("rms", pa.float32(), "tick", "recob::Hit::RMS"),
        ("peak_amplitude", pa.float32(), "recob::Wire unit", "recob::Hit::PeakAmplitude"),
        ("integral", pa.float32(), "recob::Wire unit x tick", "recob::Hit::Integral"),
        ("track", pa.float32(), "", "score of class track (softmax with em and none)"),
        ("em", pa.float32(), "", "score of class em, electromagnetic shower"),
        ("none", pa.float32(), "", "score of class none"),
        ("michel", pa.float32(), "", "score of class michel (sigmoid, independent of the others)"),
        ("in_fiducial", pa.bool_(), "", "at least 6 wires and 6 drift bins inside the plane"),
        (
            "duplicate_patch",
            pa.bool_(),
            "",
            "in the wire and drift bin of the hit before; LArSoft blanks its patch",
        ),
        ("wire_space", pa.string(), "", "'wire', or 'channel' where the channel does not tell the wire"),
        ("backend", pa.string(), "", "what computed the scores: 'triton' or 'onnxruntime'"),
        ("file_id", pa.string(), "", "first 16 hexadecimal digits of the input file's SHA-256"),
    ]
)

ACCOUNTING_SCHEMA = _schema(
    [
        ("file", pa.string(), "", "input file, as the configuration names it"),
        (
            "file_id",
            pa.string(),
            "",
            "first 16 hexadecimal digits of its SHA-256; empty where it could not be read",
        ),
        ("entry", pa.int64(), "", "position of the event in the file; null for a whole file"),
        ("run", pa.int64(), "", "run number; null for a whole file"),
        ("subrun", pa.int64(), "", "subrun number; null for a whole file"),
        ("event", pa.int64(), "", "event number; null for a whole file"),
        ("hits_planned", pa.int64(), "", "hits in the selected planes, as catalogued"),
        ("hits_done", pa.int64(), "", "hits in the dataset"),
        ("state", pa.string(), "", "'done' or 'quarantined'"),
        ("reason", pa.string(), "", "why it is quarantined: a code, then a sentence"),
        ("partition", pa.string(), "", "partition that the event was in; null where it was refused before"),
        ("hits_triton", pa.int64(), "", "hits scored by an endpoint"),
        ("hits_onnxruntime", pa.int64(), "", "hits scored on the CPU"),
        ("endpoints", pa.string(), "", "endpoints that scored hits of the partition; null where none did"),
        ("model_versions", pa.string(), "", "model versions that they served; null where none did"),
        ("retries", pa.int64(), "", "requests of the partition that had to be sent again"),
        (
            "fallback",
            pa.string(),
            "",
            "why endpoints were left while the partition was scored; null where none was",
        ),
    ],
    nullable=frozenset(
        {
            "entry",
            "run",
            "subrun",
            "event",
            "reason",
            "partition",
            "endpoints",
            "model_versions",
            "fallback",
        }
    ),
)


def schema_fingerprint(schema: pa.Schema) -> str:
    """Return a digest of names, types and nullability."""
    text = ";".join(f"{field.name}:{field.type}:{field.nullable}" for field in schema)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
