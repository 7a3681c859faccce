"""What a campaign consists of: inputs, records of each stage, partitions, paths, accounting and provenance."""

from __future__ import annotations
