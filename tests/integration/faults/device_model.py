"""The model.py of a server that emulates a fast device: it answers at a given rate without using the CPU.

It is a program of the server's python backend, for either payload. What a request has been answered is kept, so that
the same request needs no computation when it comes again; the time that a device would take is slept. The file
``device.json`` beside it gives ``patches_per_s``.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime
import triton_python_backend_utils as pb_utils

SAMPLE = 997
"""One number of so many tells large tensors apart."""


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        folder = Path(args["model_repository"], args["model_version"])
        self.patches_per_s = json.loads((folder / "device.json").read_text())["patches_per_s"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.known = {}
        self.free_at = 0.0

    def execute(self, requests):
        start = time.monotonic()
        responses, hits = [], 0
        for request in requests:
            tensors = {
                name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs
            }
            key = tuple(
                (values.shape, values.reshape(-1)[:: SAMPLE if values.nbytes > 1e6 else 1].tobytes())
                for values in tensors.values()
            )
            if key not in self.known:
                self.known[key] = self.session.run(self.outputs, tensors)
            scores = self.known[key]
            hits += len(scores[0])
            responses.append(
                pb_utils.InferenceResponse(
                    [pb_utils.Tensor(name, values) for name, values in zip(self.outputs, scores, strict=True)]
                )
            )
        # A sleep ends late; what it was too long is taken off the next one.
        self.free_at = max(self.free_at, start) + hits / self.patches_per_s
        time.sleep(max(self.free_at - time.monotonic(), 0))
        return responses
