"""Stage ``merge``: all scores and statuses → the dataset, its accounting and its provenance."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from protosonic.campaign.accounting import accounting_table, check_statuses
from protosonic.campaign.dispatch import dispatch_summary
from protosonic.campaign.permanent import check_none_failed
from protosonic.campaign.provenance import campaign_provenance
from protosonic.campaign.records import CatalogBlock, ModelRecord, PartitionStatus, Plan, read_record
from protosonic.dataset.accounting import totals
from protosonic.dataset.merge import EventRows, merge_scores
from protosonic.dataset.schema import ACCOUNTING_SCHEMA, HITS_SCHEMA, schema_fingerprint
from protosonic.dataset.scores import parquet_writer
from protosonic.errors import VerificationError
from protosonic.publish import publish, publish_folder, publish_json, sha256_of, sha256_of_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from protosonic.campaign.layout import Layout
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
    statuses = [read_record(layout.status(partition.id), PartitionStatus) for partition in plan.partitions]
    if not layout.closed.exists():
        check_none_failed(statuses)
    check_statuses(plan, statuses)
    _check_scores(layout, statuses)
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
            list(_done_events(layout, statuses)),
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


def _check_scores(layout: Layout, statuses: list[PartitionStatus]) -> None:
    for status in statuses:
        path = layout.scores(status.partition)
        if not path.is_file() or sha256_of(path) != status.scores_sha256:
            raise VerificationError(
                "the scores are missing or not those that the status describes",
                file=path,
                hint="Remove the file and run the campaign again",
            )
        rows = pq.read_metadata(path).num_rows
        if rows != status.rows or rows != sum(event.hits_done for event in status.events):
            raise VerificationError(
                "the scores have another number of rows", file=path, expected=status.rows, found=rows
            )


def _done_events(layout: Layout, statuses: list[PartitionStatus]) -> Iterator[EventRows]:
    for status in statuses:
        for event in status.events:
            if event.state == "done":
                yield EventRows(event.id, event.hits_done, layout.scores(status.partition))
