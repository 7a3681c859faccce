"""A runtime for MLServer that serves the model contract with ONNX Runtime; it runs in MLServer's own Python."""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

CALL_PATCHES = 128


class PatchModel(MLModel):
    """Scores patches; the settings name the ONNX file and the outputs."""

    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.outputs_served = [output.name for output in self.settings.outputs]
        self.session = onnxruntime.InferenceSession(
            self.settings.parameters.uri, options, providers=["CPUExecutionProvider"]
        )
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        [given] = payload.inputs
        patches = NumpyCodec.decode_input(given)
        calls = [
            self.session.run(self.outputs_served, {given.name: patches[first : first + CALL_PATCHES]})
            for first in range(0, len(patches), CALL_PATCHES)
        ]
        outputs = [
            NumpyCodec.encode_output(name, np.concatenate(parts))
            for name, parts in zip(self.outputs_served, zip(*calls, strict=True), strict=True)
        ]
        return InferenceResponse(
            model_name=self.name, model_version=self.version, outputs=outputs, parameters=None
        )
