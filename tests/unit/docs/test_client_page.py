"""The script of docs/client.md runs as it stands there, and the page names what exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.faults.scripted_server import ScriptedServer
from protosonic.detectors import load_detector
from protosonic.events.model import EventId
from protosonic.events.native_writer import NativeWriter
from protosonic.inference import Client
from protosonic.inference.client import Pending
from protosonic.simulation.generator import simulate_event
from support.clients import PAGE, run_example
from support.models import linear_weights, write_linear_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_linear_model(tmp_path / "model.onnx", linear_weights())


@pytest.fixture
def server(model: Path) -> Iterator[ScriptedServer]:
    with ScriptedServer(model) as scripted:
        yield scripted


def test_the_example_scores_simulated_events(server: ScriptedServer, model: Path, tmp_path: Path) -> None:
    output = run_example(tmp_path, server.url, model)
    assert re.match(r"version 1, scores within 0\.0e\+00 of ", output)
    assert re.search(r"^event run 1 subrun 0 event 1: [1-9]\d* hits$", output, re.MULTILINE)
    assert re.search(r"^[1-9]\d* hits, mean michel score 0\.\d{3}$", output, re.MULTILINE)
    assert re.search(r"^[1-9]\d* requests, [\d.]+ MB sent, 0 retries$", output, re.MULTILINE)


def test_the_example_scores_the_events_of_a_file(server: ScriptedServer, model: Path, tmp_path: Path) -> None:
    detector = load_detector("protodune-sp")
    with NativeWriter(tmp_path / "events.h5", detector) as writer:
        for number in (7, 8):
            writer.write(simulate_event(detector, EventId(3, 0, number), number, hits=20, seed=5))
    output = run_example(tmp_path, server.url, model, "events.h5")
    assert "event run 3 subrun 0 event 7: " in output


def test_what_the_page_names_exists() -> None:
    named = set(re.findall(r"`(client|pending)\.(\w+)", PAGE.read_text(encoding="utf-8")))
    assert len(named) > 5
    for owner, name in named:
        assert hasattr({"client": Client, "pending": Pending}[owner], name), name
