"""Whole campaigns with a real endpoint, without one, and with one that dies."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from integration.serving import HANGS_AFTER_S, ServeProcess, await_true
from protosonic.errors import ServiceError
from support.campaign import CampaignRun, assert_same_hits, clean_environment

TOLERANCE = 1e-5


def campaign_at(url: str, folder: Path, like: CampaignRun, policy: str) -> CampaignRun:
    inference: dict[str, Any] = {"policy": policy, "threads": 1, "endpoints": [{"url": url}]}
    return CampaignRun(folder, like.config | {"inference": inference})


def backends(campaign: CampaignRun) -> set[str]:
    return set(campaign.hits()["backend"].to_pylist())


def assert_equal_scores(found: CampaignRun, expected: CampaignRun) -> None:
    assert_same_hits(
        found.hits().drop_columns(["backend"]), expected.hits().drop_columns(["backend"]), TOLERANCE
    )


def test_the_endpoint_gives_the_scores_of_the_cpu_for_every_hit(
    serve: ServeProcess, cpu_campaign: CampaignRun, tmp_path: Path
) -> None:
    campaign = campaign_at(serve.url, tmp_path, cpu_campaign, "endpoint-only")
    campaign.run()
    assert_equal_scores(campaign, cpu_campaign)
    assert backends(campaign) == {"triton"}
    for row in campaign.accounting():
        assert row["state"] == "done"
        assert row["hits_triton"] == row["hits_done"] == row["hits_planned"] > 0
        assert row["hits_onnxruntime"] == 0
        assert (row["endpoints"], row["model_versions"]) == (serve.url, "1")
        assert (row["retries"], row["fallback"]) == (0, None)
    record = campaign.campaign()
    assert record["fallbacks"] == []
    assert record["totals"]["hits_by_backend"] == {"triton": len(campaign.hits()), "onnxruntime": 0}
    assert record["provenance"]["served_model_versions"] == ["1"]
    assert record["provenance"]["endpoints"] == [serve.url]
    [use] = record["dispatch"]["endpoints"]
    assert (use["endpoint"], use["hits"]) == (serve.url, len(campaign.hits()))
    assert use["requests"] == use["answers"] >= use["partitions"] == 6
    assert use["payloads"] == ["image"]
    assert 2 * use["hits"] < use["bytes_sent"] < 9216 * use["hits"] / 30
    assert use["bytes_received"] > 16 * use["hits"]
    assert 0 < use["latency_s"]["p50"] <= use["latency_s"]["max"]
    assert 0 < use["server_compute_ms"] < 1e3 * use["latency_s"]["max"]
    assert use["deviation"] <= TOLERANCE
    assert record["dispatch"]["failures"] == []
    campaign.verify()


def test_without_a_server_endpoint_first_ends_on_the_cpu_and_says_why(
    nobody: str, cpu_campaign: CampaignRun, tmp_path: Path
) -> None:
    campaign = campaign_at(nobody, tmp_path, cpu_campaign, "endpoint-first")
    output = campaign.run()
    assert_equal_scores(campaign, cpu_campaign)
    assert backends(campaign) == {"onnxruntime"}
    [reason] = campaign.campaign()["fallbacks"]
    assert nobody in reason
    assert "UNAVAILABLE" in reason
    assert nobody in output
    [failure] = campaign.campaign()["dispatch"]["failures"]
    assert (failure["endpoint"], failure["failure"]) == (nobody, "unavailable")
    assert {(row["endpoints"], row["fallback"]) for row in campaign.accounting()} == {(None, reason)}
    campaign.verify()


def test_without_a_server_endpoint_only_fails_and_a_later_run_with_one_completes_it(
    serve: ServeProcess, nobody: str, cpu_campaign: CampaignRun, tmp_path: Path
) -> None:
    campaign = campaign_at(nobody, tmp_path, cpu_campaign, "endpoint-only")
    output = campaign.run(expect=ServiceError.exit_code)
    [*_, last] = [line for line in output.splitlines() if line.startswith("error: ")]
    assert nobody in last
    assert "endpoint-only" in last
    assert not list(campaign.results.rglob("*"))

    campaign = campaign_at(serve.url, tmp_path, cpu_campaign, "endpoint-only")
    campaign.run()
    assert backends(campaign) == {"triton"}
    assert_equal_scores(campaign, cpu_campaign)
    campaign.verify()


def test_a_server_killed_in_mid_campaign_leaves_every_hit_scored_once(
    cpu_campaign: CampaignRun, tmp_path: Path
) -> None:
    with ServeProcess(tmp_path / "serve") as serve:
        campaign = campaign_at(serve.url, tmp_path / "run", cpu_campaign, "endpoint-first")
        # On one core, jobs run one after the other: those after the first status find no server.
        with subprocess.Popen(
            campaign.command(cores=1),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=clean_environment(),
        ) as process:
            await_true(lambda: list(campaign.work.glob("status/*.json")) != [] or process.poll() is not None)
            serve.server.kill()
            output, _ = process.communicate(timeout=HANGS_AFTER_S)
        assert process.returncode == 0, output
        code, _ = serve.end()
        assert code == ServiceError.exit_code
        assert "the Triton server has ended" in serve.errors()
        assert "SIGKILL" in serve.errors()
    assert backends(campaign) == {"triton", "onnxruntime"}
    assert_equal_scores(campaign, cpu_campaign)
    for row in campaign.accounting():
        assert row["hits_triton"] + row["hits_onnxruntime"] == row["hits_done"] == row["hits_planned"]
    record = campaign.campaign()
    assert any(serve.url in reason for reason in record["fallbacks"])
    assert {failure["endpoint"] for failure in record["dispatch"]["failures"]} == {serve.url}
    [use] = record["dispatch"]["endpoints"]
    assert use["hits"] == record["totals"]["hits_by_backend"]["triton"] > 0
    assert use["departures"] >= 1
    campaign.verify()
