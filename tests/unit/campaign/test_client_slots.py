"""Campaigns that share an endpoint's clients through a folder."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from protosonic.campaign.client_slots import client_slot, endpoints_allowed
from protosonic.config.model import Inference
from protosonic.errors import ServiceError

HOLD = """
import sys, time
from pathlib import Path
from protosonic.campaign.client_slots import client_slot
with client_slot(Path(sys.argv[1]), int(sys.argv[3]), 60) as slot:
    print(slot, time.monotonic(), flush=True)
    time.sleep(float(sys.argv[2]))
    print(time.monotonic(), flush=True)
"""


def holder(folder: Path, seconds: float, slots: int = 2) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(folder), str(seconds), str(slots)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_no_more_processes_than_slots_hold_one_and_each_gets_its_turn(tmp_path):
    processes = [holder(tmp_path / "slots", 0.3) for _ in range(6)]
    outputs = [process.communicate()[0].split() for process in processes]
    held = sorted((float(start), float(stop), int(slot)) for slot, start, stop in outputs)
    assert {slot for _, _, slot in held} <= {0, 1}
    for start, _, _ in held:
        assert sum(other <= start < stop for other, stop, _ in held) <= 2


def test_slot_of_a_killed_process_is_free_again(tmp_path):
    first, second = holder(tmp_path, 600), holder(tmp_path, 600)
    assert first.stdout is not None
    assert second.stdout is not None
    first.stdout.readline()
    second.stdout.readline()
    with client_slot(tmp_path, 2, 0) as slot:
        assert slot is None
    first.kill()
    first.wait()
    with client_slot(tmp_path, 2, 60) as slot:
        assert slot is not None
    second.kill()
    second.communicate()
    first.communicate()


def inference(folder: Path, **changes: object) -> Inference:
    return Inference.model_validate(
        {"slots_folder": str(folder), "slots": 1, "slot_patience_s": 0.2} | changes
    )


def test_job_without_a_slot_goes_on_with_the_cpu_and_says_why(tmp_path):
    with endpoints_allowed(inference(tmp_path)) as first, endpoints_allowed(inference(tmp_path)) as second:
        assert (first.inference.policy, first.fallbacks) == ("endpoint-first", ())
        assert second.inference.policy == "cpu-only"
        [reason] = second.fallbacks
        assert reason.startswith(f"{tmp_path}: no client slot came free (expected one of 1 within 0.2 s)")


def test_job_that_may_not_use_the_cpu_can_be_tried_again(tmp_path):
    section = inference(tmp_path, policy="endpoint-only")
    with (
        endpoints_allowed(section),
        pytest.raises(ServiceError, match="no client slot came free"),
        endpoints_allowed(section),
    ):
        pass


def test_slot_is_waited_for(tmp_path):
    process = holder(tmp_path, 0.5, slots=1)
    assert process.stdout is not None
    process.stdout.readline()
    with client_slot(tmp_path, 1, 60) as slot:
        taken = time.monotonic()
    assert slot == 0
    assert taken >= float(process.communicate()[0])


@pytest.mark.parametrize("changes", [{"slots_folder": None}, {"policy": "cpu-only"}])
def test_no_slot_is_taken_where_none_is_needed(tmp_path, changes):
    with endpoints_allowed(inference(tmp_path / "slots", **changes)) as allowed:
        assert allowed.fallbacks == ()
    assert not (tmp_path / "slots").exists()
