"""What all rules use; the logic is in protosonic.campaign.workflow, where it is tested."""

from protosonic.campaign.workflow import (
    CampaignWorkflow,
    collect_garbage_rarely,
    end_at_once,
)

collect_garbage_rarely()
CAMPAIGN = CampaignWorkflow(config)
CAMPAIGN.prepare_jobs()


wildcard_constraints:
    block="[0-9a-f]{2}",
    partition="[0-9a-f]{16}",


def catalog_of_inputs(wildcards):
    # Not before it is needed: training needs no inputs.
    return expand("<work>/catalog/{block}.json", block=CAMPAIGN.blocks)


def scores_of_partitions(wildcards):
    plan = checkpoints.partition.get().output.plan
    return expand(
        "<work>/scores/{partition}.parquet", partition=CAMPAIGN.partitions(plan)
    )


def statuses_of_partitions(wildcards):
    plan = checkpoints.partition.get().output.plan
    return expand("<work>/status/{partition}.json", partition=CAMPAIGN.partitions(plan))


def threads_of_infer(wildcards):
    # The number of cores is that of this machine; on a cluster every job has one, also when it asks from there.
    is_here = workflow.local_exec and not workflow.remote_exec
    cores = workflow.resource_settings.cores if is_here else 1
    return CAMPAIGN.threads(wildcards.partition, cores)
