"""Inference on the CPU with dense layers in 8 bits, for those who ask for it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from protosonic.errors import ModelError
from protosonic.inference.folding import fold_constants
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from protosonic.inference.hits import HitBatch

__all__ = ["Int8Backend"]


class Int8Backend:
    """ONNX Runtime with the weights of dense layers in 8 bits a number, by channel, and activations as they come.

    :meth:`infer` stays exact, because endpoints are compared with it; :meth:`score` is what hits get.

    Parameters
    ----------
    model, threads, batch_size, calls
        As for :class:`~.onnxruntime_backend.OnnxRuntimeBackend`.

    Raises
    ------
    ModelError
        The file is not a model, does not meet the contract, or cannot be quantised.
    """

    name = "onnxruntime"
    engine = "onnxruntime-int8"

    def __init__(self, model: Path, threads: int, batch_size: int, *, calls: int | None = None) -> None:
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        self.batch_size = batch_size
        self._exact = OnnxRuntimeBackend(model, threads, batch_size, calls=calls)
        self.concurrency = self._exact.concurrency
        with tempfile.TemporaryDirectory() as folder:
            quantised = Path(folder, "int8.onnx")
            try:
                quantize_dynamic(
                    fold_constants(onnx.load(model)),  # weights stored as integers are not taken for weights
                    quantised,
                    op_types_to_quantize=["MatMul", "Gemm"],
                    per_channel=True,
                    weight_type=QuantType.QInt8,
                )
            except Exception as error:  # its exceptions share no base class
                raise ModelError(
                    "the model cannot be quantised",
                    file=model,
                    found=str(error).splitlines()[0],
                    hint="Use inference.precision: exact",
                ) from error
            self._fast = OnnxRuntimeBackend(
                quantised, threads, batch_size, calls=calls, what=f"{model} in 8 bits"
            )

    def infer(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute exact scores."""
        return self._exact.infer(patches)

    def score(self, hits: HitBatch) -> NDArray[np.float32]:
        """Compute scores of hits, in 8 bits."""
        return self._fast.score(hits)

    def close(self) -> None:
        """Release the sessions."""
        self._exact.close()
        self._fast.close()
