"""No pause is slept through: whatever is due wakes the dispatcher, also when its thread is slow."""

from __future__ import annotations

import time
from pathlib import Path

import grpc
import numpy as np
import pytest

from integration.faults.scripted_server import Failure, ScriptedServer
from protosonic.inference.dispatcher import Dispatcher
from protosonic.inference.endpoint_options import EndpointOptions
from support.models import linear_weights, write_linear_model

LONGEST_FIRST_PAUSE_S = 0.2


def test_a_pause_that_ends_before_the_next_one_is_computed_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_out = Dispatcher._give_out

    def give_out_slowly(self: Dispatcher, now: float) -> None:
        give_out(self, now)
        time.sleep(LONGEST_FIRST_PAUSE_S)

    monkeypatch.setattr(Dispatcher, "_give_out", give_out_slowly)
    model = write_linear_model(tmp_path / "linear.onnx", linear_weights())
    with ScriptedServer(model) as server:
        server.reply("ModelInfer", lambda answer: answer, times=1)  # the golden batch
        server.reply(
            "ModelInfer", Failure(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size"), times=1
        )
        dispatcher = Dispatcher("endpoint-only", [EndpointOptions(server.url)], None)
        # Only the pause can wake the dispatcher: the one that looks for the end of patience must not hide its loss.
        monkeypatch.setattr(dispatcher, "_policy", "endpoint-first")
        monkeypatch.setattr(dispatcher, "_next_for_cpu", lambda: None)
        [(scores, _)] = dispatcher.score([np.zeros((3, 48, 48), np.float32)])
        dispatcher.close()
    assert len(scores) == 3
    assert len(server.received("ModelInfer")) == 3
