"""Scores from patches: the model contract, the backends and the dispatcher. Knows neither Snakemake nor files of events."""

from __future__ import annotations
