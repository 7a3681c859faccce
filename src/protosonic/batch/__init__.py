"""What profiles need to hand jobs to batch systems for which Snakemake has no fitting executor."""

from __future__ import annotations
