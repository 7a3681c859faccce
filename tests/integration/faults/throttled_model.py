"""The model.py of a server that emulates a device: it takes the time that it is told to take, without using the CPU.

It is a program of the server's python backend. The file ``control.json`` beside it is read at every call:
``seconds_per_call`` and ``seconds_per_patch`` are the time that a call takes at least; ``other_after`` is the number
of calls after which ``other.onnx`` makes the scores.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

OUTPUTS = ("em_trk_none_netout", "michel_netout")
CALL_PATCHES = 128


class TritonPythonModel:
    def initialize(self, args):
        self.folder = Path(args["model_repository"], args["model_version"])
        self.sessions = {name: self.session(f"{name}.onnx") for name in ("model", "other")}
        self.calls = 0

    def session(self, name):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(
            str(self.folder / name), options, providers=["CPUExecutionProvider"]
        )

    def execute(self, requests):
        start = time.monotonic()
        control = json.loads((self.folder / "control.json").read_text())
        patches = [
            pb_utils.get_input_tensor_by_name(request, "main_input").as_numpy() for request in requests
        ]
        self.calls += 1
        is_other = self.calls > control.get("other_after", float("inf"))
        scores = self.scores(self.sessions["other" if is_other else "model"], np.concatenate(patches))
        ends = np.cumsum([len(part) for part in patches])
        responses = [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor(name, values[end - len(part) : end])
                    for name, values in zip(OUTPUTS, scores, strict=True)
                ]
            )
            for part, end in zip(patches, ends, strict=True)
        ]
        seconds = control.get("seconds_per_call", 0) + control.get("seconds_per_patch", 0) * ends[-1]
        time.sleep(max(start + seconds - time.monotonic(), 0))
        return responses

    def scores(self, session, patches):
        names = [output.name for output in session.get_outputs()]
        [tensor] = session.get_inputs()
        calls = [
            session.run(names, {tensor.name: patches[first : first + CALL_PATCHES]})
            for first in range(0, len(patches), CALL_PATCHES)
        ]
        return [np.concatenate(parts) for parts in zip(*calls, strict=True)]
