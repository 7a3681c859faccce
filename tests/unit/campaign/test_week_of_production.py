"""The bookkeeping of campaigns through a simulated week in which everything fails more often than it should."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from protosonic.errors import VerificationError

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def simulation(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import week_of_production

    yield week_of_production
    sys.modules.pop("week_of_production", None)


def forget(week):
    yield week.env.timeout(0)


def bad_days(simulation, seed):
    return simulation.Options(
        partitions=200,
        nodes=4,
        evicted_per_hour=0.3,
        killed_per_hour=0.1,
        node_hours=20,
        short_of_memory=0.05,
        short_of_time=0.05,
        poison=0.03,
        quarantined=0.02,
        controller_hours=2,
        operator_hours=2,
        outages=40,
        storage_outages=40,
        seed=seed,
    )


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_and_nothing_doubled(simulation, tmp_path, seed):
    result = simulation.simulate(bad_days(simulation, seed), tmp_path)
    assert result["events done"] + result["events quarantined"] == 2000
    # All that can happen did.
    assert result["controller deaths"] > 0
    assert result["node failures"] > 0
    assert all(number for what, number in result.items() if what.startswith("jobs that ended so"))
    assert result["jobs"] > 1.2 * result["partitions"]


def test_a_status_that_gets_lost_is_noticed(simulation, tmp_path, monkeypatch):
    """The simulation can fail: here a partition's record loses an event."""
    write = simulation.Week._write_done

    def write_less(week, name, hours):
        write(week, name, hours)
        status = simulation.read_record(week.layout.status(name), simulation.PartitionStatus)
        simulation.write_record(
            week.layout.status(name), status.model_copy(update={"events": status.events[1:]})
        )

    monkeypatch.setattr(simulation.Week, "_write_done", write_less)
    with pytest.raises(VerificationError, match="hits were lost"):
        simulation.simulate(bad_days(simulation, 1), tmp_path)


def test_a_run_that_does_not_wait_for_its_jobs_is_noticed(simulation, tmp_path, monkeypatch):
    """The simulation can fail: here a new run does not know of the jobs that the last one left."""
    monkeypatch.setattr(simulation.Week, "settle", forget)
    with pytest.raises(simulation.BrokenError, match=r"twice|again"):
        simulation.simulate(bad_days(simulation, 1), tmp_path)
