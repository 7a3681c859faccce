"""``protosonic model check``: what a model file is, and whether it does what the contract says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from scipy.optimize import linear_sum_assignment

from protosonic.detectors import load_detector
from protosonic.evaluation.roc import area_under_curve
from protosonic.events.model import EventId
from protosonic.events.truth import HitTruth
from protosonic.images.profiles import load_profile
from protosonic.images.unit import prepare_event
from protosonic.inference.contract import OUTPUTS, SCORE_NAMES
from protosonic.inference.cpu_backend import load_cpu_backend
from protosonic.inference.golden import golden_patches
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.simulation.generator import simulate_event
from protosonic.stages.infer import hit_batches, order_on_image
from protosonic.stages.model import check_model, model_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from protosonic.inference.contract import Backend

__all__ = ["ModelReport", "inspect_model"]

CLASSES = OUTPUTS["em_trk_none_netout"]
_TOLERANCE = 1e-5
_HITS, _SEED = 4000, 1
_SHAPE_TYPES = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)
"""Of constants that are sizes and axes, not weights."""
_CLEAR_GAIN = 0.05
"""Of the mean area under the curve; less is not worth a remark."""


@dataclass(frozen=True)
class ModelReport:
    """What is known of a model that meets the contract.

    Attributes
    ----------
    path, size, sha256, untrained
        The file; whether it carries the mark of random weights.
    producer, opset, nodes, parameters
        The graph in it.
    tensors
        Tensor of the contract → name, type and shape in the file.
    engine
        What computes it on the CPU: ``sparse`` where it is the published network, else ``onnxruntime``.
    engine_deviation
        Largest difference of the engine from ONNX Runtime on the golden batch.
    golden
        Mean score of the golden batch by class.
    areas
        Class → area under the ROC curve of its score against all other hits, on simulated hits; empty for an untrained
        model.
    remarks
        What is allowed but probably not meant.
    """

    path: str
    size: int
    sha256: str
    untrained: bool
    producer: str
    opset: int
    nodes: int
    parameters: int
    tensors: dict[str, str]
    engine: str
    engine_deviation: float
    golden: dict[str, float]
    areas: dict[str, float]
    remarks: tuple[str, ...]


def inspect_model(model: str, profile_name: str = "protodune-sp-2021") -> ModelReport:
    """Check a model against the contract, and try it on the golden batch and on simulated hits.

    Parameters
    ----------
    model
        An ONNX file, or ``bundled``.
    profile_name
        Preprocessing of the simulated hits.

    Raises
    ------
    ModelError
        It is missing, is no ONNX file, does not meet the contract or gives scores that are not finite.
    """
    path = model_file(model)
    record = check_model(path)
    proto = onnx.load(path, load_external_data=False)
    patches = golden_patches()
    plain = OnnxRuntimeBackend(path, threads=1)
    reference = plain.infer(patches)
    one_by_one = np.concatenate([plain.infer(patch[None]) for patch in patches])
    profile = load_profile(profile_name)
    fast = load_cpu_backend(path, threads=1, background=profile.zero_level)
    remarks = [
        *_remarks_on_graph(proto),
        *_remarks_on_scores(reference, one_by_one),
    ]
    areas: dict[str, float] = {}
    if not record.untrained:
        areas, order_remarks = _try_on_simulated_hits(fast, profile_name)
        remarks += order_remarks
    report = ModelReport(
        path=model,
        size=path.stat().st_size,
        sha256=record.sha256,
        untrained=record.untrained,
        producer=_producer(proto),
        opset=next((entry.version for entry in proto.opset_import if entry.domain in {"", "ai.onnx"}), 0),
        nodes=len(proto.graph.node),
        parameters=sum(
            int(np.prod(tensor.dims))
            for tensor in proto.graph.initializer
            if tensor.data_type not in _SHAPE_TYPES
        ),
        tensors=plain.tensors,
        engine=fast.engine,
        engine_deviation=float(np.abs(fast.infer(patches) - reference).max()),
        golden={name: float(value) for name, value in zip(SCORE_NAMES, reference.mean(axis=0), strict=True)},
        areas=areas,
        remarks=tuple(remarks),
    )
    plain.close()
    fast.close()
    return report


def _producer(proto: onnx.ModelProto) -> str:
    # tf2onnx appends its git revision, or None where it has none.
    version = proto.producer_version.removesuffix(" None")
    return f"{proto.producer_name} {version}".strip() or "unknown"


def _remarks_on_graph(proto: onnx.ModelProto) -> Iterator[str]:
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in proto.graph.initializer):
        yield (
            "weights lie in other files beside this one, but campaigns and repositories copy this one only: "
            "save the model as a single file"
        )


def _remarks_on_scores(scores: NDArray[np.float32], one_by_one: NDArray[np.float32]) -> Iterator[str]:
    if scores.min() < -_TOLERANCE or scores.max() > 1 + _TOLERANCE:
        yield f"scores are not between 0 and 1 ({scores.min():.3g} to {scores.max():.3g}): is the last layer missing?"
    sums = scores[:, : len(CLASSES)].sum(axis=1)
    if np.abs(sums - 1).max() > 1e-3:
        yield f"track + em + none is not 1 ({sums.min():.3g} to {sums.max():.3g}): is the softmax missing?"
    if np.ptp(scores, axis=0).max() == 0:
        yield "all golden patches get the same scores: the network does not look at its input"
    deviation = float(np.abs(scores - one_by_one).max())
    if deviation > _TOLERANCE:
        yield f"scores depend on the batch by {deviation:.2g}: is it exported for training (dropout, batch norms)?"


def _try_on_simulated_hits(backend: Backend, profile_name: str) -> tuple[dict[str, float], list[str]]:
    """Score a simulated event and find out which column fits which class best."""
    profile = load_profile(profile_name)
    event = simulate_event(
        load_detector("protodune-sp"), EventId(1, 1, 1), 0, _HITS, _SEED, stopping_share=1.0
    )
    assert event.truth is not None
    unit = prepare_event(event, profile, (0, 1, 2))
    scores = np.concatenate(
        [backend.score(batch) for batch in hit_batches([unit], profile, 1, blank_duplicates=False)]
    )
    order = np.concatenate([image.hits["hit"][order_on_image(image)] for image in unit.images])
    label = event.truth.label[order]
    area = np.array(
        [
            [
                area_under_curve(scores[:, column], label == HitTruth.LABELS.index(name)) or 0.5
                for column in range(len(CLASSES))
            ]
            for name in CLASSES
        ]
    )
    rows, columns = linear_sum_assignment(-area)
    gain = float((area[rows, columns] - np.diag(area)).mean())
    remarks = []
    if gain > _CLEAR_GAIN:
        fits = [CLASSES[row] for row in np.argsort(columns)]
        remarks.append(
            f"on simulated hits the columns of em_trk_none_netout fit {', '.join(fits)} better than "
            f"{', '.join(CLASSES)} (mean AUC {area[rows, columns].mean():.2f} instead of {np.diag(area).mean():.2f}): "
            "was it trained with another order?"
        )
    return {name: float(area[row, row]) for row, name in enumerate(CLASSES)}, remarks
