"""What is printed on the terminal."""

from __future__ import annotations

import numpy as np
import pytest

from protosonic.detectors import load_detector
from protosonic.errors import DataError, VerificationError
from protosonic.events.model import HIT_FIELDS, Event, EventId, Hits
from protosonic.events.native_writer import NativeWriter
from protosonic.events.reader import ReaderOptions
from protosonic.reporting.terminal import (
    UNTRAINED_WARNING,
    print_inspection,
    print_summary,
    print_verification,
)
from protosonic.simulation.files import simulate_files


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")


def test_inspection_lists_the_events_of_a_file(tmp_path, capsys):
    [path] = simulate_files(tmp_path, detector="protodune-sp", files=1, events=2, hits=0, seed=1, run=77)
    print_inspection(path, ReaderOptions())
    head, detector, *lines = capsys.readouterr().out.splitlines()
    assert head == f"{path}: native"
    assert detector == "detector protodune-sp"
    rows = [line.replace("│", " ").split() for line in lines if line.startswith("│")]
    assert [row[:4] for row in rows] == [["0", "77", "0", "1"], ["1", "77", "0", "2"]]


def test_inspection_gives_each_reason_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    detector = load_detector("protodune-sp")
    columns = {name: np.ones(1, dtype) for name, dtype in HIT_FIELDS.items()}
    one_hit = Hits(**columns, in_wire_space=np.ones(1, bool))
    path = tmp_path / "hits.h5"
    with NativeWriter(path, detector) as writer:
        for entry in range(3):
            hits = Hits.empty() if entry == 1 else one_hit
            writer.write(Event(EventId(1, 0, entry), entry, detector, 6000, None, hits))
    print_inspection(path, ReaderOptions())
    text = capsys.readouterr().out
    assert text.count("no-waveforms: the event has hits but no waveforms, so no image can be made.") == 1
    assert [line.split("│")[-2].strip() for line in text.splitlines() if line.startswith("│")] == [
        "no-waveforms",
        "",
        "no-waveforms",
    ]


@pytest.mark.parametrize("name", ["a[bold].h5", "a[].h5", "[red]a[blue].h5", "[/]a.h5"])
def test_name_of_a_file_is_printed_as_it_is(tmp_path, capsys, name):
    [path] = simulate_files(tmp_path, detector="protodune-sp", files=1, events=0, hits=0, seed=1)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    path = path.rename(tmp_path / name)
    print_inspection(path, ReaderOptions())
    assert f"{path}: native" in capsys.readouterr().out


def test_file_that_cannot_be_used_is_refused(tmp_path):
    (tmp_path / "a.h5").touch()
    with pytest.raises(DataError, match=r"a\.h5: the file is empty"):
        print_inspection(tmp_path / "a.h5", ReaderOptions())


def test_summary_says_what_came_out_and_where_it_is(make_campaign, capsys, hostile):
    layout = make_campaign()
    print_summary(layout, 2.0)
    text = capsys.readouterr().out
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in text.splitlines() if line.strip()}
    assert rows["events"] == "1 done, 2 quarantined"
    assert rows["hits"] == "60 in 2.0 s, 30 hits/s; 120 hits/s in the infer stage"
    assert rows["backends"] == "onnxruntime 75.0%, triton 25.0%"
    assert rows["dataset"] == str(layout.hits)
    assert rows["report"] == str(layout.report)
    assert f"fallback the endpoint is down: {hostile}" in text
    assert UNTRAINED_WARNING in text


def test_lines_of_the_summary_are_not_broken_in_a_narrow_log(make_campaign, capsys, monkeypatch, hostile):
    monkeypatch.setenv("COLUMNS", "20")
    layout = make_campaign()
    print_summary(layout, 2.0)
    lines = capsys.readouterr().out.splitlines()
    assert f"dataset   {layout.hits}" in lines
    assert UNTRAINED_WARNING in lines
    assert any(line.startswith("fallback") and hostile in line for line in lines)


def test_summary_cuts_a_long_list_of_fallbacks(make_campaign, capsys):
    print_summary(make_campaign(more_fallbacks=9), 2.0)
    text = capsys.readouterr().out
    assert text.count("fallback ") == 3
    assert "… and 7 more: the report sums them up" in text


def test_summary_of_a_trained_model_does_not_warn(make_campaign, capsys):
    print_summary(make_campaign(untrained=False), 2.0)
    assert UNTRAINED_WARNING not in capsys.readouterr().out


def test_summary_of_a_campaign_that_was_complete_before_gives_no_rate_of_the_run(make_campaign, capsys):
    print_summary(make_campaign(), None)
    assert " 60; 120 hits/s in the infer stage" in capsys.readouterr().out


def test_summary_without_hits_is_printed(make_campaign, capsys):
    print_summary(make_campaign(0), 2.0)
    assert "none" in capsys.readouterr().out


def test_verified_campaign_is_said_to_be_whole(make_campaign, capsys):
    layout = make_campaign()
    print_verification(layout, [])
    assert capsys.readouterr().out == (
        f"{layout.results}: verified: 3 planned = 1 done + 2 quarantined; each of 60 hits is there once\n"
    )


@pytest.mark.parametrize(("n", "count"), [(1, "1 problem$"), (2, "2 problems$"), (70, "70 problems$")])
def test_problems_are_printed_up_to_a_limit_and_counted(make_campaign, capsys, n, count):
    with pytest.raises(VerificationError, match=count):
        print_verification(make_campaign(), [f"problem {number}" for number in range(n)])
    assert capsys.readouterr().out.splitlines() == [f"problem {number}" for number in range(min(n, 50))]
