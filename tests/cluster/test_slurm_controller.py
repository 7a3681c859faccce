"""The machine that controls a campaign on SLURM dies again and again, while its jobs go on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from cluster.campaigns import SlurmCampaign, overlapping, switch_off
from support.campaign import CampaignRun, assert_same_hits

DEATHS = 3
JOB_S = 6


def test_controller_that_dies_three_times_loses_nothing_and_does_nothing_twice(
    make_campaign: Callable[..., SlurmCampaign], quiet: CampaignRun
) -> None:
    campaign = make_campaign()
    partitions = [item["id"] for item in campaign.plan_here()]
    campaign.faults = {
        name: {"stage": "infer", "kind": "sleep", "times": 1, "amount": JOB_S} for name in partitions
    }
    orphaned = 0
    for death in range(DEATHS):
        process = campaign.start()
        started = len(campaign.attempts())
        campaign.await_true("jobs", lambda: len(campaign.attempts()) > started + 1, process)  # noqa: B023
        switch_off(process)
        running = {job.job for job in campaign.attempts() if job.end == float("inf")}
        orphaned += len(running)
        if death == 1:
            time.sleep(2 * JOB_S)  # some end while nobody looks
    output = campaign.run()
    assert orphaned, "no job outlived its controller"
    assert any("waited for" in text for text in (*campaign.outputs, output)), "none was waited for"
    campaign.verify()
    assert_same_hits(campaign.hits(), quiet.hits())
    attempts = campaign.attempts()
    assert overlapping(attempts, campaign.ends()) == []
    done = Counter(attempt.partition for attempt in attempts if attempt.stage == "infer")
    assert done == dict.fromkeys(partitions, 1), "finished work was done again"
