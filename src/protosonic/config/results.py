"""The sections of the configuration about what a campaign leaves: dataset, verdict and report."""

from __future__ import annotations

from pydantic import Field

from protosonic.config.section import Section

__all__ = ["Acceptance", "Merge", "Report"]


class Merge(Section):
    """How the dataset is cut into files."""

    target_rows: int = Field(4_000_000, ge=1, description="Rows per Parquet file.")
    row_group_rows: int = Field(250_000, ge=1, description="Rows per Parquet row group.")
    bundle_partitions: int = Field(
        100,
        ge=1,
        description="Partitions, on average, whose scores are merged first, in campaigns of over twice as many.",
    )


class Acceptance(Section):
    """When a campaign counts as good."""

    max_quarantined_fraction: float = Field(
        0.0,
        ge=0,
        le=1,
        description="The run ends with exit code 5 when more of the planned events are quarantined.",
    )


class Report(Section):
    """What the report shows."""

    reference: str | None = Field(
        None,
        min_length=1,
        description="Results folder of another campaign, or a Parquet file of hits: its scores stand beside those of "
        "this campaign.",
    )
    events: int = Field(3, ge=0, le=20, description="Events that are drawn.")
