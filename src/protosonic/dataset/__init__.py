"""The Parquet dataset: schema, writing, merging and verification."""

from __future__ import annotations
