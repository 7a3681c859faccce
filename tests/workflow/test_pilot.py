"""A pilot: a few partitions first, measured; the rest sized by them, or not started."""

from __future__ import annotations

import json
import subprocess

from protosonic.errors import ConfigError, PilotError
from support.campaign import CampaignRun, assert_same_hits, clean_environment
from support.models import linear_weights, write_linear_model
from support.poison import MOST_CHARGE, write_poisoned_file


def run_pilot(campaign: CampaignRun, number: int, *arguments: str, expect: int = 0) -> str:
    command = campaign.command(*arguments)
    command[2:2] = ["--pilot", str(number)]
    process = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=clean_environment(),
    )
    assert process.returncode == expect, process.stdout
    return process.stdout


def partitions_of(campaign: CampaignRun) -> list[dict]:
    content: list[dict] = json.loads((campaign.work / "plan.json").read_text())["partitions"]
    return content


def test_the_rest_is_cut_by_the_time_that_the_pilot_took_and_nothing_is_done_twice(
    make_campaign, simulated, linear
):
    campaign = make_campaign(inputs=[{"path": f"{simulated}/*.h5"}], partition={"target_hits": 1})
    output = run_pilot(campaign, 2)
    pilot = json.loads((campaign.work / "pilot.json").read_text())
    assert [partition["events"] for partition in pilot["partitions"]] == [1, 1]
    assert len(set(pilot["files"])) == 2
    assert pilot["released"]
    assert pilot["seconds_per_hit"] > 0
    assert "ms a hit" in output
    # Two files of the pilot stay cut into single events; the events of the third are together.
    files = [partition["path"] for partition in partitions_of(campaign)]
    assert sorted(files.count(path) for path in set(files)) == [1, 2, 2]
    assert output.count("Score the hits of partition") == 5
    for partition in partitions_of(campaign):
        assert output.count(f"Score the hits of partition {partition['id']}") == 1
    campaign.verify()
    assert_same_hits(campaign.hits(), linear.hits())
    # A later run uses the same sizes by itself.
    assert "Score the hits" not in campaign.run()
    assert len(partitions_of(campaign)) == 5


def test_a_pilot_that_fails_stops_the_campaign_until_the_cause_is_mended(make_campaign, simulated, tmp_path):
    (tmp_path / "poison").mkdir()
    for number in range(2):
        write_poisoned_file(tmp_path / "poison" / f"{number}.h5", first=10 * number)
    campaign = make_campaign(
        inputs=[{"path": f"{simulated}/*.h5"}, {"path": f"{tmp_path}/poison/*.h5"}],
        model={"path": "model.onnx"},
    )
    model = campaign.workdir / "model.onnx"
    write_linear_model(model, linear_weights(), most_charge=MOST_CHARGE)
    output = run_pilot(campaign, 3, expect=PilotError.exit_code)
    assert "too many events of the pilot are not done" in output
    pilot = json.loads((campaign.work / "pilot.json").read_text())
    assert not pilot["released"]
    assert 0 < pilot["failed_fraction"] < 1
    assert len(list(campaign.work.glob("status/*.json"))) == 3
    write_linear_model(model, linear_weights())
    run_pilot(campaign, 3)
    assert json.loads((campaign.work / "pilot.json").read_text())["failed_fraction"] == 0
    campaign.verify()


def test_a_pilot_that_is_a_dry_run_is_refused(make_campaign, simulated):
    campaign = make_campaign(inputs=[{"path": f"{simulated}/*.h5"}])
    assert "a dry run measures nothing" in run_pilot(campaign, 1, "--dry-run", expect=ConfigError.exit_code)
