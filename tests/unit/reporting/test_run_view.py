"""The jobs of a run, counted from what Snakemake logs."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console
from snakemake_interface_logger_plugins.common import LogEvent

from protosonic.campaign.layout import Layout
from protosonic.campaign.state import CampaignState
from protosonic.reporting.run_view import Jobs, PlainView, progress_line
from snakemake_logger_plugin_protosonic import LogHandler, LogHandlerSettings


def record(message: str | None = None, level: int = logging.INFO, **said: object) -> logging.LogRecord:
    made = logging.LogRecord("snakemake", level, "", 0, message, None, None)
    made.__dict__.update(said)
    return made


def job(number: int, rule: str) -> logging.LogRecord:
    return record(event=LogEvent.JOB_INFO, jobid=number, rule_name=rule)


def test_jobs_are_counted_by_rule():
    jobs = Jobs()
    jobs.see(record(event=LogEvent.RUN_INFO, stats={"infer": 2, "total": 5}))
    assert (jobs.done, jobs.total) == (0, 5)
    for number, rule in ((1, "infer"), (2, "infer"), (3, "merge")):
        jobs.see(job(number, rule))
    jobs.see(record(event=LogEvent.JOB_FINISHED, job_id=1))
    jobs.see(record(event=LogEvent.JOB_ERROR, jobid=3))
    jobs.see(record(event=LogEvent.PROGRESS, done=1, total=9))
    jobs.see(record("Select jobs to execute..."))
    assert jobs.lines() == ["running     infer 1", "ended       infer 1", "failed      merge 1"]
    assert (jobs.done, jobs.total) == (1, 9)


def test_a_job_that_is_tried_again_runs_once():
    jobs = Jobs()
    jobs.see(job(1, "infer"))
    jobs.see(job(1, "infer"))
    assert jobs.running["infer"] == 1
    jobs.see(record(event=LogEvent.JOB_ERROR, jobid=1))
    jobs.see(job(1, "infer"))
    jobs.see(record(event=LogEvent.JOB_FINISHED, job_id=1))
    assert jobs.lines() == ["ended       infer 1", "failed      infer 1"]


def test_a_line_says_how_far_a_run_is():
    state = CampaignState(
        "demo",
        "running",
        partitions={"planned": 40, "done": 10, "failed": 1, "missing": 29},
        hits={"planned": 4000, "done": 1000},
        backends={"grpc://a:1": 750, "onnxruntime": 250},
        retries={"timeout": 3, "overload": 4},
        hits_per_s=1234.5,
        hours_left=0.5,
    )
    assert progress_line(Jobs(done=12, total=90), state) == (
        "12 of 90 jobs, 10 of 40 partitions, 1 of them failed for good, 1,000 of 4,000 hits, 75% by grpc://a:1, "
        "25% by onnxruntime, 7 requests sent again, 1,234.5 hits/s, 30 minutes left"
    )
    assert progress_line(Jobs(done=1, total=9), None) == "1 of 9 jobs"


@pytest.fixture
def shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stream = io.StringIO()
    view = PlainView(Layout("demo"), Console(file=stream))
    view.start()
    yield view, stream
    view.close()


def test_warnings_and_errors_are_shown_as_snakemake_writes_them(shown):
    view, stream = shown
    text = {"Error in rule infer": "[infer] Error in rule infer:\n    jobid: 3"}
    for said in (
        record("Select jobs to execute..."),
        record("Error in rule infer", logging.ERROR, event=LogEvent.JOB_ERROR, jobid=3),
        record("a [bold]warning[/bold]", logging.WARNING),
        record(None, event=LogEvent.PROGRESS, done=1, total=9),
    ):
        view.see(said, lambda seen: text.get(seen.getMessage(), seen.getMessage()))
    assert stream.getvalue() == "[infer] Error in rule infer:\n    jobid: 3\na [bold]warning[/bold]\n"


def test_the_last_word_is_said_once(shown):
    view, stream = shown
    view.see(record(None, event=LogEvent.PROGRESS, done=9, total=9), lambda _: "")
    view.close()
    view.close()
    assert stream.getvalue().endswith(" 9 of 9 jobs\n")
    assert stream.getvalue().count("\n") == 1


def test_a_view_that_fails_does_not_end_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    handler = LogHandler(None, LogHandlerSettings(campaign="demo"))
    handler.emit(record(event=LogEvent.PROGRESS))  # it lacks its numbers
    handler.close()
    assert "KeyError" in capsys.readouterr().err
