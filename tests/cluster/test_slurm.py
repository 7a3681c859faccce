"""Campaigns on a real SLURM: complete, the same as on one machine, and as few jobs as there should be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.campaigns import SlurmCampaign
from cluster.slurm import SlurmCluster
from support.campaign import CampaignRun, assert_same_hits


def test_campaign_equals_one_on_this_machine(
    make_campaign: Callable[..., SlurmCampaign], quiet: CampaignRun
) -> None:
    campaign = make_campaign()
    output = campaign.run()
    campaign.verify()
    assert_same_hits(campaign.hits(), quiet.hits())
    assert campaign.accounting() == quiet.accounting()
    assert "sacct" in output

    attempts, jobs = campaign.attempts(), campaign.history()
    partitions = sorted(campaign.statuses())
    assert len(partitions) == 12
    for partition in partitions:
        first, second = [attempt for attempt in attempts if attempt.partition == partition]
        # Both stages are one job on one node; what lies between them is gone.
        assert (first.stage, second.stage) == ("preprocess", "infer")
        assert (first.job, first.node) == (second.job, second.node)
        assert jobs[first.job]["State"] == "COMPLETED"
        assert jobs[first.job]["TimelimitRaw"] == "20", "both stages have their ten minutes"
        assert jobs[first.job]["ReqCPUS"] == "1"
        assert int(jobs[first.job]["ReqMem"].removesuffix("M")) < 1200, (
            "the larger of both stages, not the sum"
        )
    assert len({attempt.node for attempt in attempts}) == 4
    assert list(campaign.work.glob("units/*.h5")) == []
    # Four blocks of the catalog, partition, model, merge, report; accept is no job.
    assert len(jobs) == len(partitions) + len(list(campaign.work.glob("catalog/*.json"))) + 4
    # Nothing is done again.
    assert "Nothing to be done" in campaign.run()
    assert len(campaign.history()) == len(jobs)


def test_without_accounting_squeue_is_asked(
    config: dict[str, Any], simulated: Path, quiet: CampaignRun, tmp_path: Path
) -> None:
    with SlurmCluster(accounting=False) as cluster:
        one = min(simulated.glob("*.h5"))
        campaign = SlurmCampaign(tmp_path / "run", config | {"inputs": [{"path": str(one)}]}, cluster=cluster)
        assert "--slurm-status-command squeue" in campaign.run()
    campaign.verify()
    whole = quiet.hits()
    mine = campaign.hits()
    assert_same_hits(mine, whole.slice(0, len(mine)), except_for=("file", "file_id"))
