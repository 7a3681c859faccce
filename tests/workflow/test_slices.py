"""Very large campaigns: in slices, the scores merged in two steps."""

from __future__ import annotations

from support.campaign import assert_same_hits


def test_campaign_in_slices_gives_the_same_dataset(make_campaign, simulated, linear):
    campaign = make_campaign(
        inputs=[{"path": f"{simulated}/*.h5"}],
        partition={"target_hits": 1, "most_at_once": 2},
        merge={"bundle_partitions": 1},
    )
    output = campaign.run()
    assert "Slice 3 of 3" in output
    campaign.verify()
    assert_same_hits(campaign.hits(), linear.hits())
    assert len(list((campaign.work / "bundles").glob("*.json"))) == 6
    assert "Finished jobid" not in campaign.run()
