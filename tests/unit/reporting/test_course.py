"""The course of a campaign, from what its jobs left."""

from __future__ import annotations

import json
import os
import re

import numpy as np
import pytest

from protosonic.reporting.course import Course, Job, Scoring, read_course, stage_uses
from protosonic.reporting.distributions import BINS, drifts, stability
from protosonic.reporting.outcome import limits
from protosonic.reporting.timeline import HEIGHT, WIDTH, time_line, time_ticks

ENDPOINT = "grpc://a:8001"


def job(stage: str, **changes) -> Job:
    return Job(**{"stage": stage, "name": "p", "begin": 0.0, "seconds": 10.0, "cpu_s": 5.0} | changes)


def scoring(begin: float, seconds: float, hits: dict[str, int], **changes) -> Scoring:
    values = {"partition": f"p{begin}", "latency_s": {}, "faults": ()} | changes
    return Scoring(begin=begin, seconds=seconds, hits=hits, **values)


def area_of(points: str) -> float:
    x, y = np.array([point.split(",") for point in points.split()], float).T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def test_times_come_from_what_snakemake_measured(make_campaign):
    layout = make_campaign()
    path = layout.benchmark("infer", "p")
    path.parent.mkdir(parents=True)
    attempts = [
        {"s": 99.0, "cpu_time": 1.0},
        {"s": 4.0, "cpu_time": 3.0, "max_rss": 250.5, "threads": 2, "resources": {"mem_mb": 700}},
    ]
    path.write_text("".join(json.dumps(attempt) + "\n" for attempt in attempts))
    os.utime(path, (1000.0, 1000.0))
    layout.benchmark("infer", "torn").write_text('{"s": ')
    course = read_course(layout)
    assert course.jobs == [Job("infer", "p", 996.0, 4.0, 3.0, 250.5, 2, 700)]
    [partition] = course.scorings
    assert partition.hits == {"grpc://triton:8001": 15, "onnxruntime": 45}
    assert {(endpoint, failure) for _, endpoint, failure in partition.faults} == {
        ("grpc://triton:8001", "overload"),
        ("grpc://triton:8001", "timeout"),
        ("grpc://never-there:8001", "unavailable"),
    }
    begin = partition.begin
    assert sorted(round(when - begin, 3) for when, _, _ in partition.faults) == [0.1, 1.5, 2.5]


def test_stages_are_summed_up_in_their_order():
    jobs = [
        job("merge", cpu_s=None),
        job("infer", threads=2, cpu_s=10.0, max_rss_mb=300.0, asked_mb=600),
        job("infer", seconds=30.0, threads=1, cpu_s=15.0, max_rss_mb=200.0, asked_mb=900),
    ]
    infer, merge = stage_uses(jobs)
    assert (infer.stage, infer.jobs, infer.wall_s, infer.median_s, infer.longest_s) == (
        "infer",
        2,
        40.0,
        20.0,
        30.0,
    )
    assert (infer.cpu_s, infer.cores_used) == (25.0, 25.0 / 50.0)
    assert (infer.max_rss_mb, infer.asked_mb) == (300.0, 900)
    assert (merge.stage, merge.cpu_s, merge.asked_mb) == ("merge", 0.0, None)


def test_areas_hold_all_hits_of_each_source():
    """The area of a polygon, in the units of its axes, is the number of hits."""
    line = time_line(
        Course(
            scorings=[
                scoring(100.0, 40.0, {ENDPOINT: 8000, "onnxruntime": 2000}),
                scoring(150.0, 30.0, {ENDPOINT: 6000}),
            ]
        )
    )
    per_unit = line.seconds / WIDTH * line.most_hits_per_s / HEIGHT
    found = {area.name: area_of(area.points) * per_unit for area in line.areas}
    assert found == pytest.approx({ENDPOINT: 14_000, "onnxruntime": 2000}, rel=0.02)
    assert line.seconds == 80.0
    assert {area.name: area.colour for area in line.areas} == {ENDPOINT: "e0", "onnxruntime": "cpu"}


def test_latencies_and_faults_stand_at_their_time():
    line = time_line(
        Course(
            scorings=[
                scoring(
                    0.0,
                    100.0,
                    {ENDPOINT: 1},
                    latency_s={ENDPOINT: {"p50": 0.1, "p95": 0.4}},
                    faults=((50.0, ENDPOINT, "timeout"),) * 3,
                )
            ]
        )
    )
    assert line.most_ms == pytest.approx(400)
    median, p95 = line.latencies
    assert [float(number) for number in median.points.split(",")] == pytest.approx(
        [WIDTH / 2, HEIGHT * 0.75], abs=4
    )
    assert float(p95.points.split(",")[1]) == 0.0
    [mark] = line.faults["timeout"]
    assert mark.calls == 3
    assert mark.x == pytest.approx(WIDTH / 2, abs=WIDTH / 100)


@pytest.mark.parametrize(
    ("seconds", "last"),
    [(0.5, "0.5 s"), (5, "5 s"), (59, "50 s"), (600, "10 min"), (7000, "1.5 h"), (86400 * 7, "7 days")],
)
def test_axis_has_few_ticks_in_a_unit_that_suits_it(seconds, last):
    ticks = time_ticks(seconds)
    assert ticks[0][0] == 0.0
    assert ticks[-1][1] == last
    assert 2 <= len(ticks) <= 11
    assert all(0 <= x <= WIDTH + 1e-6 for x, _ in ticks)


def test_nothing_is_drawn_of_a_campaign_that_left_nothing():
    assert time_line(Course()) is None


def test_stability_index_is_that_of_its_definition():
    ours, reference = np.array([30, 70]), np.array([50, 50])
    p, q = (30.5 / 101, 70.5 / 101), (50.5 / 101, 50.5 / 101)
    expected = sum((a - b) * np.log(a / b) for a, b in zip(p, q, strict=True))
    assert stability(ours, reference) == pytest.approx(expected)
    assert stability(ours, ours * 1) == 0.0


def test_drift_is_named_by_its_size():
    flat = np.full(BINS, 1000)
    tilted = np.linspace(500, 1500, BINS).astype(np.int64)
    peaked = np.where(np.arange(BINS) < 5, 8000, 0)
    histograms = {(0, "em"): flat, (1, "em"): tilted, (2, "em"): peaked, (0, "track"): flat}
    reference = dict.fromkeys(histograms, flat) | {(0, "track"): flat * 0}
    found = drifts(histograms, reference)
    assert [(drift.plane, drift.verdict) for drift in found] == [
        (2, "different"),
        (1, "as the reference"),
        (0, "as the reference"),
    ]
    assert found[0].mean < found[0].reference_mean == pytest.approx(0.5)


def endpoint(**changes) -> dict:
    return {
        "endpoint": ENDPOINT,
        "answers": 100,
        "requests": 100,
        "retries": {},
        "latency_s": {"p50": 0.1},
        "server_queue_ms": 1.0,
        "server_compute_ms": 10.0,
    } | changes


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"server_queue_ms": 50.0}, "was the limit: a request waited 50.0 ms there for 10.0 ms"),
        ({"retries": {"overload": 20}}, "refused 20 of 100 requests as overloaded: it was the limit"),
        ({}, "was not the limit: of 100 ms a request \\(median\\) it worked 11.0 ms"),
        (
            {"server_compute_ms": 90.0},
            "had little to spare: it computed for 90.0 ms on average, after 1.0 ms in its queue, of the 100 ms",
        ),
        ({"server_queue_ms": None}, "did not say how long it computed"),
    ],
)
def test_what_limited_an_endpoint_is_said(changes, expected):
    campaign = {
        "totals": {"hits_by_backend": {"triton": 10}},
        "dispatch": {"endpoints": [endpoint(**changes), endpoint(answers=0)]},
    }
    [sentence] = limits(campaign, Course())
    assert re.search(expected, sentence)


def test_time_of_the_jobs_is_said():
    campaign = {
        "totals": {"hits_by_backend": {"onnxruntime": 10}},
        "dispatch": {"endpoints": []},
        "provenance": {"settings": {"inference": {"policy": "cpu-only"}}},
    }
    jobs = [job("infer", seconds=30.0, cpu_s=27.0), job("preprocess")]
    assert limits(campaign, Course(jobs=jobs)) == [
        "Jobs ran for 40 s in 30 s, 1.3 at a time on average; 75% of their time went into infer.",
        (
            "The CPU scored everything, as configured: more cores, or an endpoint, would make it faster."
            " Its jobs kept 90% of the cores busy that they asked for."
        ),
    ]
