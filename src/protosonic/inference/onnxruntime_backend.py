"""Inference on the CPU with ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from protosonic.errors import ModelError
from protosonic.inference.contract import INPUT_NAME, ModelTensors, TensorSpec, join_scores
from protosonic.inference.hits import PatchBatch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from protosonic.inference.hits import HitBatch

__all__ = ["OnnxRuntimeBackend"]

_KSERVE_TYPES = {"tensor(float)": "FP32", "tensor(double)": "FP64", "tensor(float16)": "FP16"}


class OnnxRuntimeBackend:
    """Runs an ONNX file that meets the model contract.

    By default every call computes in its caller's thread alone, and as many calls as there are threads run side by
    side: threads that share a call wait for each other at every layer. Where the weights are large and the memory is
    slow fewer calls that share the threads may be faster; :mod:`~protosonic.inference.tuning` measures it.

    Parameters
    ----------
    model
        The ONNX file.
    threads
        Threads that compute. Set explicitly: by default ONNX Runtime takes every core of the host, also in a batch
        slot that owns one.
    batch_size
        Patches per call. Larger batches read the weights less often, and hold more activations.
    calls
        Calls at the same time, at most `threads`; as many where none are given. The threads that are left over help
        all of them.
    what
        What it is called in errors of scores; the file by default.

    Raises
    ------
    ModelError
        The file is not a model, or does not meet the contract.

    Attributes
    ----------
    tensors
        Tensor of the contract → name, type and shape in the file.
    """

    name = "onnxruntime"
    engine = "onnxruntime"

    def __init__(
        self,
        model: Path,
        threads: int,
        batch_size: int = 256,
        *,
        calls: int | None = None,
        what: str | None = None,
    ) -> None:
        self.batch_size = batch_size
        self.concurrency = calls or threads
        self._what = what or str(model)
        options = onnxruntime.SessionOptions()
        # The callers' threads count once: they compute as well.
        options.intra_op_num_threads = threads - self.concurrency + 1
        if options.intra_op_num_threads > 1:  # threads that wait leave the core to other calls and jobs
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        # The next level would give this network's only convolution a layout of its own, to be undone after it: two
        # copies of the largest tensor, slower and twice the memory.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.log_severity_level = 3
        try:
            # A backend that cannot be used must fail, not fall to another one silently.
            self._session = onnxruntime.InferenceSession(
                str(model), options, providers=["CPUExecutionProvider"], disable_fallback=True
            )
        except Exception as error:  # its exceptions share no base class
            raise ModelError(
                "ONNX Runtime cannot load the model",
                file=model,
                found=str(error).splitlines()[0],
                hint="docs/models.md says what a model must look like, and how to convert others",
            ) from error
        inputs, outputs = map(_specs, (self._session.get_inputs(), self._session.get_outputs()))
        self._tensors = ModelTensors.match(inputs, outputs, what=self._what)
        by_name = {spec.name: str(spec) for spec in (*inputs, *outputs)}
        self.tensors = {
            INPUT_NAME: by_name[self._tensors.input],
            **{name: by_name[found] for name, found in self._tensors.outputs.items()},
        }

    def infer(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute scores; see :class:`protosonic.inference.contract.Backend`."""
        return self.score(PatchBatch(patches))

    def score(self, hits: HitBatch) -> NDArray[np.float32]:
        """Compute scores of hits, a batch of patches at a time."""
        scores = [
            self._run(hits.cut(start, self.batch_size).patches())
            for start in range(0, len(hits), self.batch_size)
        ]
        return np.concatenate(scores) if scores else np.empty((0, 4), np.float32)

    def close(self) -> None:
        """Release the session."""
        del self._session

    def _run(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        names = list(self._tensors.outputs)
        values = self._session.run(
            [self._tensors.outputs[name] for name in names], {self._tensors.input: patches[..., None]}
        )
        return join_scores(dict(zip(names, values, strict=True)), len(patches), what=self._what)


def _specs(nodes: Sequence[onnxruntime.NodeArg]) -> list[TensorSpec]:
    return [
        TensorSpec(
            node.name,
            _KSERVE_TYPES.get(node.type, node.type),
            tuple(size if isinstance(size, int) else None for size in node.shape),
        )
        for node in nodes
    ]
