"""What all rules use; the logic is in protosonic.campaign.workflow, where it is tested."""

from protosonic.campaign.snakemake_mending import (
    ask_sizes_once,
    collect_garbage_rarely,
    end_at_once,
    let_signals_in,
    see_cancelled_jobs,
)
from protosonic.campaign.workflow import CampaignWorkflow

collect_garbage_rarely()
CAMPAIGN = CampaignWorkflow(config, is_job=not workflow.is_main_process)
CAMPAIGN.prepare_jobs(are_here=workflow.local_exec)


wildcard_constraints:
    block="[0-9a-f]{2}",
    bundle="[0-9a-f]{16}",
    partition="[0-9a-f]{16}",


def catalog_of_inputs(wildcards):
    # Not before it is needed: training needs no inputs.
    return expand("<work>/catalog/{block}.json", block=CAMPAIGN.block_names)


def scored(wildcards):
    # Of large campaigns what the bundles hold, else the scores and statuses of all partitions.
    plan = checkpoints.partition.get().output.plan
    partitions = CAMPAIGN.partitions(plan)
    if CAMPAIGN.bundles:
        return expand(
            ["<work>/bundles/{bundle}.parquet", "<work>/bundles/{bundle}.json"],
            bundle=CAMPAIGN.bundles,
        )
    return scored_partitions(partitions)


def scored_of_bundle(wildcards):
    checkpoints.partition.get()
    return scored_partitions(CAMPAIGN.bundles[wildcards.bundle])


def scored_partitions(partitions):
    return expand(
        ["<work>/scores/{partition}.parquet", "<work>/status/{partition}.json"],
        partition=partitions,
    )


def threads_of_infer(wildcards):
    # The number of cores is that of this machine; on a cluster every job has one, also when it asks from there.
    is_here = workflow.local_exec and not workflow.remote_exec
    cores = workflow.resource_settings.cores if is_here else 1
    return CAMPAIGN.threads(wildcards.partition, cores)
