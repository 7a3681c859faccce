"""Stage ``merge``: all scores and statuses → the dataset, its accounting and its provenance."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from protosonic.campaign.accounting import accounting_table, check_statuses
from protosonic.campaign.bundles import bundles_of
from protosonic.campaign.dispatch import dispatch_summary
from protosonic.campaign.permanent import check_none_failed
from protosonic.campaign.provenance import campaign_provenance
from protosonic.campaign.records import Bundle, CatalogBlock, ModelRecord, Plan, read_record
from protosonic.dataset.accounting import totals
from protosonic.dataset.merge import merge_scores
from protosonic.dataset.schema import ACCOUNTING_SCHEMA, HITS_SCHEMA, schema_fingerprint
from protosonic.dataset.scores import parquet_writer
from protosonic.publish import publish, publish_folder, publish_json, sha256_of, sha256_of_json
from protosonic.stages.collect import check_scores, done_events, read_scored

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from protosonic.campaign.layout import Layout
    from protosonic.campaign.records import PartitionStatus
    from protosonic.config import Settings

__all__ = ["merge_campaign"]

log = logging.getLogger(__name__)

CAMPAIGN_VERSION = 1


def merge_campaign(layout: Layout, settings: Settings) -> dict[str, Any]:
    """Merge a campaign whose partitions are all done, and write ``campaign.json`` last.

    Returns
    -------
    The content of ``campaign.json``.

    Raises
    ------
    IncompleteError
        Partitions failed, and the campaign was not closed; nothing is published then.
    VerificationError
        Something was lost, doubled or damaged; nothing is published then.
    """
    plan = read_record(layout.plan, Plan)
    model = read_record(layout.model, ModelRecord)
    files = [
        record for block in plan.catalog for record in read_record(layout.catalog / block, CatalogBlock).files
    ]
    scored = list(_scored(layout, plan, settings.merge.bundle_partitions))
    statuses = [status for status, _ in scored]
    if not layout.closed.exists():
        check_none_failed(statuses)
    check_statuses(plan, statuses)
    provenance = campaign_provenance(settings, model, files, statuses)
    footer = {
        "campaign": settings.campaign.name,
        "provenance_sha256": sha256_of_json(provenance),
        "input_sha256": sorted({entry["sha256"] for entry in provenance["inputs"]}),
        **{
            key: provenance[key]
            for key in ("package", "settings", "model", "preprocessing", "served_model_versions")
        },
    }
    accounting = accounting_table(plan, statuses)
    with publish_folder(layout.hits) as folder:
        parts = merge_scores(
            [event for status, scores in scored for event in done_events(status, scores)],
            folder,
            target_rows=settings.merge.target_rows,
            row_group_rows=settings.merge.row_group_rows,
            footer=footer,
        )
        dataset = [
            {
                "file": f"hits/{path.name}",
                "rows": rows,
                "size": path.stat().st_size,
                "sha256": sha256_of(path),
            }
            for path, rows in parts
        ]
    with publish(layout.accounting) as part, parquet_writer(part, ACCOUNTING_SCHEMA, footer) as writer:
        writer.write_table(accounting)
    summary = totals(accounting)
    campaign = {
        "format": "protosonic-campaign",
        "format_version": CAMPAIGN_VERSION,
        "provenance": provenance,
        "totals": summary,
        "acceptance": {
            "max_quarantined_fraction": settings.acceptance.max_quarantined_fraction,
            "accepted": summary["quarantined_fraction"] <= settings.acceptance.max_quarantined_fraction,
        },
        "inference_seconds": round(sum(status.seconds for status in statuses), 3),
        "fallbacks": sorted({reason for status in statuses for reason in status.fallbacks}),
        "dispatch": dispatch_summary(statuses),
        "failed_partitions": [
            {"partition": status.partition, "file": status.path, "events": len(status.events)}
            | status.failure.model_dump(include={"stage", "error", "message"})
            for status in statuses
            if status.failure is not None
        ],
        "dataset": {
            "schema": schema_fingerprint(HITS_SCHEMA),
            "files": dataset,
            "accounting": {"file": layout.accounting.name, "sha256": sha256_of(layout.accounting)},
        },
    }
    publish_json(layout.campaign, campaign)
    log.info("%d events, %d hits: %s", summary["events_planned"], summary["hits_done"], layout.hits)
    return campaign


def _scored(layout: Layout, plan: Plan, bundle_partitions: int) -> Iterator[tuple[PartitionStatus, Path]]:
    """Give the status of each partition with the file that holds its scores."""
    partitions = [partition.id for partition in plan.partitions]
    bundles = bundles_of(partitions, bundle_partitions)
    for name in bundles:
        bundle, scores = read_record(layout.bundle(name), Bundle), layout.bundle_scores(name)
        check_scores(scores, bundle.scores_sha256, bundle.rows)
        for status in bundle.statuses:
            yield status, scores
    for partition in () if bundles else partitions:
        yield read_scored(layout, partition), layout.scores(partition)
