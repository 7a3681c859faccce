"""``protosonic model check``: what it says of models, good and odd."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from protosonic.errors import ModelError
from protosonic.inference.contract import SCORE_NAMES
from protosonic.inference.golden import golden_patches
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.inference.untrained import untrained_model, write_untrained_model
from protosonic.stages.model_check import ModelReport, inspect_model
from support.models import linear_weights, write_linear_model


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def charge_model(path: Path, columns: tuple[int, int, int]) -> Path:
    """A network of a few weights that tells the classes of simulated hits apart, its outputs in another order.

    Noise has little charge at the hit; a shower much on the wires of the hit, for the charge around it.

    Parameters
    ----------
    columns
        The output of track, of em and of none.
    """
    sums = np.zeros((48, 48, 4), np.float32)
    sums[23:26, 23:26, 2] = -10.0
    sums[:, :, 1] = -0.03
    sums[23:26, :, 1] += 0.5
    sums = sums.reshape(-1, 4)
    three = sums[:, [columns.index(place) for place in range(3)]]
    node = helper.make_node
    nodes = [
        node("Reshape", ["main_input", "flat"], ["pixels"]),
        node("MatMul", ["pixels", "w3"], ["logits"]),
        node("Softmax", ["logits"], ["em_trk_none_netout"], axis=1),
        node("MatMul", ["pixels", "w1"], ["logit"]),
        node("Sigmoid", ["logit"], ["michel_netout"]),
    ]
    constants = {"w3": three.copy(), "w1": sums[:, 1:2] - 0.01, "flat": np.array([-1, 48 * 48], np.int64)}
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "charge",
        [value("main_input", TensorProto.FLOAT, ["N", 48, 48, 1])],
        [
            value("em_trk_none_netout", TensorProto.FLOAT, ["N", 3]),
            value("michel_netout", TensorProto.FLOAT, ["N", 1]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="by hand")
    model.ir_version = 8
    onnx.save(model, path)
    return path


def inspect(path: Path) -> ModelReport:
    return inspect_model(str(path))


def remarks(report: ModelReport) -> str:
    return "\n".join(report.remarks)


def test_the_published_network_is_recognised_and_its_facts_are_given(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_untrained_model(path)
    report = inspect(path)
    assert (report.opset, report.nodes, report.parameters) == (17, 12, 11_900_420)
    assert report.size == path.stat().st_size
    assert (report.engine, report.producer, report.untrained) == ("sparse", "protosonic", True)
    assert report.engine_deviation <= 1e-6
    assert report.tensors == {
        "main_input": "main_input FP32 [?, 48, 48, 1]",
        "em_trk_none_netout": "em_trk_none_netout FP32 [?, 3]",
        "michel_netout": "michel_netout FP32 [?, 1]",
    }
    expected = OnnxRuntimeBackend(path, threads=1).infer(golden_patches()).mean(axis=0)
    assert list(report.golden.values()) == pytest.approx(expected.tolist())
    assert list(report.golden) == list(SCORE_NAMES)
    assert report.areas == {}
    assert report.remarks == ()


def test_a_model_without_remarks_is_tried_on_simulated_hits(tmp_path: Path) -> None:
    report = inspect(charge_model(tmp_path / "model.onnx", (0, 1, 2)))
    assert report.engine == "onnxruntime"
    assert report.areas["none"] > 0.8
    assert report.remarks == ()


def test_the_bundled_network_needs_no_remark() -> None:
    report = inspect_model("bundled")
    assert (report.path, report.engine, report.untrained) == ("bundled", "sparse", False)
    assert min(report.areas.values()) > 0.9
    assert report.remarks == ()


def test_another_order_of_the_columns_is_noticed(tmp_path: Path) -> None:
    right = inspect(charge_model(tmp_path / "right.onnx", (0, 1, 2)))
    # What is called none stands in column 0, track in column 1, em in column 2.
    report = inspect(charge_model(tmp_path / "turned.onnx", (1, 2, 0)))
    assert "fit none, track, em better than track, em, none" in remarks(report)
    assert report.areas["none"] < right.areas["none"] - 0.2


def test_logits_instead_of_scores_are_noticed(tmp_path: Path) -> None:
    report = inspect(write_linear_model(tmp_path / "model.onnx", linear_weights() * 1000))
    assert "is the last layer missing?" in remarks(report)
    assert "is the softmax missing?" in remarks(report)


def test_a_network_that_ignores_its_input_is_noticed(tmp_path: Path) -> None:
    report = inspect(write_linear_model(tmp_path / "model.onnx", np.zeros((4, 48, 48))))
    assert "does not look at its input" in remarks(report)


def test_scores_that_depend_on_the_batch_are_noticed(tmp_path: Path) -> None:
    model = untrained_model()
    # The pixels of each patch less the mean over the batch, as a batch normalisation left in training would give.
    first = model.graph.node[0]
    mean = helper.make_node("ReduceMean", ["main_input"], ["mean"], axes=[0], keepdims=1)
    minus = helper.make_node("Sub", ["main_input", "mean"], ["centred"])
    first.input[0] = "centred"
    nodes = [mean, minus, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, tmp_path / "model.onnx")
    report = inspect(tmp_path / "model.onnx")
    assert "scores depend on the batch" in remarks(report)


def test_weights_in_other_files_are_noticed(tmp_path: Path) -> None:
    onnx.save(
        untrained_model(), tmp_path / "model.onnx", save_as_external_data=True, location="model.onnx.data"
    )
    assert "save the model as a single file" in remarks(inspect(tmp_path / "model.onnx"))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x0a\x3b\x0a\x0amain_input\x12\x0bPlaceholder*\x0c", "a TensorFlow graph"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
        (b"PK\x03\x04....metadata.json....config.json", "a Keras file"),
        (b"PK\x03\x04....archive/data.pkl", "a zip archive"),
    ],
)
def test_models_of_other_frameworks_are_named_with_the_way_out(
    tmp_path: Path, content: bytes, what: str
) -> None:
    path = tmp_path / "model.pb"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=what) as caught:
        inspect(path)
    assert "Convert it with tf2onnx" in str(caught.value) or "torch.onnx.export" in str(caught.value)


def test_a_saved_model_folder_is_named_and_another_folder_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="this is a folder"):
        inspect(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ModelError, match="a TensorFlow SavedModel, not an ONNX file"):
        inspect(tmp_path)
