"""A campaign is watched by the real node_exporter and the real Prometheus."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.campaign import BIN, CampaignRun, clean_environment, protosonic
from support.processes import kill_tree

ROOT = Path(__file__).parents[2]
RULES = ROOT / "config/monitoring/alerts.yaml"
DASHBOARD = ROOT / "config/monitoring/grafana-dashboard.json"
LONGEST_S = 120.0


def free_port() -> int:
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


@contextmanager
def running(*command: str) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        kill_tree(process)


class Prometheus:
    """A Prometheus that reads what is in a folder, by way of node_exporter."""

    def __init__(self, folder: Path, port: int) -> None:
        self.textfiles, self._url = folder, f"http://127.0.0.1:{port}/api/v1/"

    def get(self, what: str, **parameters: str) -> Any:
        url = f"{self._url}{what}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url) as answer:  # noqa: S310 (on this machine)
            return json.load(answer)["data"]

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """Ask until there is something."""
        end = time.monotonic() + LONGEST_S
        while time.monotonic() < end:
            try:
                if found := self.get("query", query=expression)["result"]:
                    return list(found)
            except OSError:
                pass  # it is starting
            time.sleep(0.5)
        raise AssertionError(f"Prometheus knows nothing of {expression}")


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Prometheus]:
    textfiles = tmp_path / "textfiles"
    textfiles.mkdir()
    exporter, server = free_port(), free_port()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "node", "static_configs": [{"targets": [f"127.0.0.1:{exporter}"]}]}],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    export = running(
        "prometheus-node-exporter",
        "--collector.disable-defaults",
        "--collector.textfile",
        f"--collector.textfile.directory={textfiles}",
        f"--web.listen-address=127.0.0.1:{exporter}",
    )
    serve = running(
        "prometheus",
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{server}",
    )
    with export, serve:
        yield Prometheus(textfiles, server)


def expressions_of_dashboard() -> list[str]:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


def test_a_campaign_is_seen_in_prometheus_while_it_runs_and_afterwards(
    prometheus: Prometheus, tmp_path: Path, serve: Any
) -> None:
    protosonic("simulate", str(tmp_path / "data"), "--files", "3", "--events", "1", "--hits", "300")
    campaign = CampaignRun(
        tmp_path / "run",
        {
            "inputs": [{"path": str(tmp_path / "data" / "*.h5")}],
            "inference": {"policy": "endpoint-first", "endpoints": [{"url": serve.url}]},
        },
    )
    campaign.run("--until", "partition")
    metrics = prometheus.textfiles / "protosonic.prom"
    run = subprocess.Popen(campaign.command(cores=1), env=clean_environment(), stdout=subprocess.DEVNULL)
    watch = [str(BIN / "protosonic"), "status", str(campaign.workdir), "--watch", "--interval", "0.5"]
    while not (campaign.work / "run.lock").exists() and run.poll() is None:
        time.sleep(0.1)
    watcher = subprocess.Popen([*watch, "--metrics", str(metrics)], stdout=subprocess.DEVNULL)
    assert run.wait() == 0
    assert watcher.wait() == 0
    protosonic("status", str(campaign.workdir), "--metrics", str(metrics))

    with metrics.open("rb") as file:
        subprocess.run(["promtool", "check", "metrics"], stdin=file, check=True)
    complete = prometheus.ask('protosonic_campaign_state{state="complete"}')
    assert complete[0]["metric"]["campaign"] == "test"
    [done] = prometheus.ask('protosonic_partitions{state="done"}')
    assert done["value"][1] == "3"
    [hits] = prometheus.ask("protosonic_hits_scored")
    assert hits["metric"]["backend"] == serve.url
    assert int(hits["value"][1]) == len(campaign.hits())
    for expression in expressions_of_dashboard():
        prometheus.ask(expression.replace("$campaign", "test"))
    names = {rule["name"] for group in prometheus.get("rules")["groups"] for rule in group["rules"]}
    assert {"ProtosonicPartitionsFail", "ProtosonicStandsStill", "ProtosonicFallsBack"} <= names


def test_alerts_pass_the_checks_and_tests_of_promtool() -> None:
    for command in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]):
        process = subprocess.run(
            ["promtool", *command], cwd=RULES.parent, capture_output=True, text=True, check=False
        )
        assert process.returncode == 0, process.stdout + process.stderr
