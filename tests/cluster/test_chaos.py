"""Everything goes wrong in one campaign on a real SLURM with a real endpoint; nothing is lost, and nothing doubled.

PROTOSONIC_CHAOS_PARTITIONS says how many partitions there are, at least; docs/slurm.md has what came out with 200.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from cluster.campaigns import SlurmCampaign, overlapping, switch_off
from cluster.slurm import SlurmCluster
from integration.serving import ServeProcess, suspended
from protosonic.errors import IncompleteError
from support.campaign import CampaignRun, assert_same_hits, protosonic
from support.models import linear_weights, write_linear_model
from support.poison import MOST_CHARGE, POISONED_RUN, write_poisoned_file

PARTITIONS = int(os.environ.get("PROTOSONIC_CHAOS_PARTITIONS", "40"))
EVENTS = 10
"""Of each file."""
DEATHS = 3
"""Of the controller."""
OUTAGE_S = 60
MOST_RUNS = 12
TOLERANCE = 1e-5


class Chaos:
    """What goes wrong while a campaign runs; call :meth:`go_on` again and again."""

    def __init__(self, campaign: SlurmCampaign, cluster: SlurmCluster, partitions: int) -> None:
        self.campaign, self.cluster, self.partitions = campaign, cluster, partitions
        self.random = random.Random(5)
        self.done: Counter[str] = Counter()

    def share_done(self) -> float:
        return len(list(self.campaign.work.glob("status/*.json"))) / self.partitions

    def cancel_one(self) -> None:
        running = [attempt.job for attempt in self.campaign.attempts() if attempt.end == float("inf")]
        if running:
            self.cluster.call("scancel", self.random.choice(running), check=False)
            self.done["scancel"] += 1

    def restart_node(self) -> None:
        node = self.random.choice([attempt.node for attempt in self.campaign.attempts()])
        self.cluster.kill(node)
        self.cluster.start_node(node)
        self.done["slurmd"] += 1


def outage(serve: ServeProcess, begun: threading.Event) -> None:
    """The server hangs for a minute, with requests under way."""
    begun.wait()
    with suspended(serve.server):
        time.sleep(OUTAGE_S)


def test_chaos(the_slurm: SlurmCluster, tmp_path_factory: Any) -> None:
    workdir: Path = tmp_path_factory.mktemp("chaos")
    n_files = -(-PARTITIONS // EVENTS)
    protosonic(
        "simulate", str(workdir / "data"), "--files", str(n_files), "--events", str(EVENTS), "--hits", "100", "--seed", "3"
    )  # fmt: skip
    write_poisoned_file(workdir / "data" / "poison.h5", events=1)
    model = write_linear_model(workdir / "model.onnx", linear_weights(), most_charge=MOST_CHARGE)
    config: dict[str, Any] = {
        "inputs": [{"path": str(workdir / "data" / "*.h5")}],
        "model": {"path": str(model)},
        "partition": {"target_hits": 1},
        "acceptance": {"max_quarantined_fraction": 0.1},
    }
    quiet = CampaignRun(workdir / "quiet", config)
    quiet.run(expect=IncompleteError.exit_code)
    protosonic("close", str(quiet.workdir))

    with ServeProcess(workdir / "serve", "--model", str(model)) as serve:
        inference = {
            "policy": "endpoint-first",
            "endpoints": [{"url": serve.url}],
            "request_timeout_s": 5.0,
            "connect_timeout_s": 2.0,
            "patience_s": 10.0,
        }
        campaign = SlurmCampaign(workdir / "run", config | {"inference": inference}, cluster=the_slurm)
        partitions = campaign.plan_here()
        assert len(partitions) > PARTITIONS
        healthy = [item["id"] for item in partitions if "poison" not in item["path"]]
        [poisoned] = [item["id"] for item in partitions if "poison" in item["path"]]
        memory, late, *killed = healthy[::7][:6]
        campaign.faults = {
            memory: {"stage": "infer", "kind": "memory", "times": 1, "amount": 1300},
            late: {"stage": "infer", "kind": "sleep", "times": 1, "amount": 1000},
        } | {name: {"stage": "infer", "kind": "kill", "times": 1} for name in killed}
        chaos = Chaos(campaign, the_slurm, len(partitions))
        outage_begins = threading.Event()
        server_hangs = threading.Thread(target=outage, args=(serve, outage_begins), daemon=True)
        server_hangs.start()
        code = run_until_it_ends(campaign, chaos, outage_begins)
        server_hangs.join()

    assert code == IncompleteError.exit_code, campaign.output()
    assert chaos.done["controller"] == DEATHS
    assert chaos.done["scancel"] >= DEATHS
    assert chaos.done["slurmd"] >= DEATHS
    statuses = campaign.statuses()
    assert {name for name, status in statuses.items() if status["state"] != "done"} == {poisoned}
    assert statuses.keys() == {item["id"] for item in partitions}
    protosonic("close", str(campaign.workdir), environment=campaign.environment())
    campaign.verify()

    assert {row["run"] for row in campaign.accounting() if row["state"] != "done"} == {POISONED_RUN}
    found, expected = campaign.hits(), quiet.hits()
    assert_same_hits(found.drop_columns(["backend"]), expected.drop_columns(["backend"]), TOLERANCE)
    backends = Counter(found["backend"].to_pylist())
    assert set(backends) == {"triton", "onnxruntime"}, "the outage was not noticed"

    history, attempts = campaign.history(), campaign.attempts()
    assert overlapping(attempts, campaign.ends()) == []
    scored = Counter(
        attempt.partition for attempt in attempts if attempt.stage == "infer" and attempt.end < float("inf")
    )
    assert set(scored) == statuses.keys()
    assert scored[poisoned] == 1, "a permanent failure was tried again"
    print(  # noqa: T201
        json.dumps(
            {
                "partitions": len(partitions),
                "jobs": len(history),
                "states": Counter(job["State"].split()[0] for job in history.values()),
                "faults": chaos.done,
                "hits": backends,
                "scored again": sum(number - 1 for number in scored.values()),
            }
        )
    )
    shutil.rmtree(workdir)


def run_until_it_ends(campaign: SlurmCampaign, chaos: Chaos, outage_begins: threading.Event) -> int:
    """Start the campaign whenever it was killed, and give the exit code of the run that ended by itself."""
    for _ in range(MOST_RUNS):
        process = campaign.start(
            "--set-resources", "preprocess:runtime=1 * attempt", "infer:runtime=1 * attempt"
        )
        while process.poll() is None:
            time.sleep(3)
            share = chaos.share_done()
            if share > 0.1 and chaos.done["scancel"] < 2 + DEATHS * share * 2:
                chaos.cancel_one()
            if share > 0.15 * (1 + chaos.done["slurmd"]) and chaos.done["slurmd"] < DEATHS:
                chaos.restart_node()
            if share > 0.5:
                outage_begins.set()
            if share > 0.2 * (1 + chaos.done["controller"]) and chaos.done["controller"] < DEATHS:
                switch_off(process)
                chaos.done["controller"] += 1
        if chaos.done["controller"] == DEATHS and process.returncode >= 0:
            return process.returncode
    raise AssertionError(campaign.output())
