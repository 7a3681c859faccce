"""The model that takes image requests scores like the model that it was built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from protosonic.errors import ModelError
from protosonic.inference.contract import OUTPUTS, SCORE_NAMES, TensorSpec
from protosonic.inference.golden import golden_patches
from protosonic.inference.image_payload import IMAGE_INPUTS, MOST_CANVAS, ImageHits, is_image_model
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.inference.untrained import is_untrained, untrained_model
from protosonic.serving.image_model import INCONSISTENT, build_image_model
from support.image_hits import (
    REAL_FILES,
    UNEVEN,
    ZERO,
    Plane,
    cut,
    gather,
    planes_of,
    random_plane,
    real_events,
)
from support.image_requests import Limits, requests_of
from support.models import linear_weights, write_linear_model

CANARIES = golden_patches()[[3, 8]]
SUFFIXED = ("em_trk_none_netout/Softmax:0", "michel_netout/Sigmoid:0")
TOLERANCE = 1e-6

Score = Callable[[Mapping[str, NDArray[Any]]], NDArray[np.float32]]


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"], disable_fallback=True
    )


def scorer(model: onnx.ModelProto) -> Score:
    """Scores of image requests."""
    onnx.checker.check_model(model, full_check=True)
    running = session(model)

    def score(tensors: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        return np.hstack(running.run(list(OUTPUTS), dict(tensors)))

    return score


def scores_of(hits: ImageHits, score: Score, limits: Limits) -> NDArray[np.float32]:
    """Scores of all hits in the order in which they were gathered."""
    scores = np.full((len(hits), len(SCORE_NAMES)), np.nan, np.float32)
    for part, request in requests_of(hits, limits, CANARIES):
        found = score(request.tensors)
        assert len(found) == request.n_scores
        scores[part.index] = found[1:-1]
    return scores


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_linear_model(
        tmp_path_factory.mktemp("linear") / "linear.onnx",
        linear_weights(),
        output_names=SUFFIXED,
        input_name="main_input:0",
    )


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("untrained") / "untrained.onnx"
    onnx.save(untrained_model(), path)
    return path


@pytest.fixture(scope="module")
def score_linear(linear: Path) -> Score:
    return scorer(build_image_model(onnx.load(linear), linear, group=16))


@pytest.fixture(scope="module")
def score_untrained(untrained: Path) -> Score:
    return scorer(build_image_model(onnx.load(untrained), untrained))


def assert_scores_equal_those_of_patches(
    planes: list[Plane], score: Score, model: Path, limits: Limits, profile: Any = ZERO
) -> None:
    expected = OnnxRuntimeBackend(model, threads=1).infer(cut(planes, profile))
    found = scores_of(gather(planes, profile), score, limits)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@given(data=st.data(), profile=st.sampled_from([ZERO, UNEVEN]), most=st.integers(5, 250))
@settings(max_examples=30)
def test_scores_equal_those_of_patches(
    data: st.DataObject, profile: Any, most: int, score_linear: Score, linear: Path
) -> None:
    assert_scores_equal_those_of_patches(
        data.draw(planes_of(profile)), score_linear, linear, Limits(most), profile
    )


@pytest.mark.parametrize("most", [1, 2, 126, 127, 128, 129, 300])
def test_scores_of_the_network_equal_those_of_patches_at_every_size(
    score_untrained: Score, untrained: Path, most: int
) -> None:
    planes = [random_plane(1, (300, 200), 200), random_plane(2, (40, 300), 100)]
    n = 20 if most < 3 else 300
    planes = [
        plane._replace(wire=plane.wire[:n], drift_bin=plane.drift_bin[:n], is_blank=None) for plane in planes
    ]
    assert_scores_equal_those_of_patches(planes, score_untrained, untrained, Limits(most))


@pytest.mark.parametrize("group", [1, 7, 100, 5000])
def test_scores_do_not_depend_on_the_size_of_the_groups(linear: Path, group: int) -> None:
    score = scorer(build_image_model(onnx.load(linear), linear, group=group))
    assert_scores_equal_those_of_patches([random_plane(3, (300, 200), 200)], score, linear, Limits())


def test_the_golden_batch_has_its_scores(score_untrained: Score, untrained: Path) -> None:
    found = score_untrained(ImageHits.of_patches(golden_patches()).encode().tensors)
    expected = OnnxRuntimeBackend(untrained, threads=1).infer(golden_patches())
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_long_gaps_are_bridged(score_linear: Score, linear: Path) -> None:
    image = random_plane(4, (60, 150_000), 0).image
    positions = np.array([(0, 0), (59, 149_999), (30, 70_000), (30, 3), (30, 149_000)], np.int32)
    planes = [Plane(image, positions[:, 0], positions[:, 1])]
    assert_scores_equal_those_of_patches(planes, score_linear, linear, Limits())


def test_the_model_has_the_tensors_of_the_contract_and_standard_operators_only(linear: Path) -> None:
    model = build_image_model(onnx.load(linear), linear)
    running = session(model)
    assert [node.name for node in running.get_inputs()] == list(IMAGE_INPUTS)
    types = {
        "tensor(uint8)": "UINT8",
        "tensor(uint16)": "UINT16",
        "tensor(int32)": "INT32",
        "tensor(float)": "FP32",
    }
    assert is_image_model(
        [
            TensorSpec(
                node.name, types[node.type], tuple(n if isinstance(n, int) else None for n in node.shape)
            )
            for node in running.get_inputs()
        ]
    )
    assert [(node.name, node.shape[1]) for node in running.get_outputs()] == [
        (name, len(classes)) for name, classes in OUTPUTS.items()
    ]
    assert {node.domain for graph in graphs(model.graph) for node in graph.node} == {""}
    assert {entry.domain for entry in model.opset_import} == {""}


def graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    inner = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    return [graph, *(found for part in inner for found in graphs(part))]


def test_the_mark_of_the_untrained_network_is_kept(untrained: Path, tmp_path: Path) -> None:
    onnx.save(build_image_model(onnx.load(untrained), untrained), tmp_path / "image.onnx")
    assert is_untrained(tmp_path / "image.onnx")


def test_the_given_model_is_left_as_it_was(linear: Path) -> None:
    model = onnx.load(linear)
    build_image_model(model, linear)
    assert model == onnx.load(linear)


@pytest.mark.parametrize("opset", [8, 10, 11, 12, 13, 16, 18, 21])
def test_models_of_all_ages_are_taken(linear: Path, tmp_path: Path, opset: int) -> None:
    model = onnx.load(linear)
    model.opset_import[0].version = opset
    model.ir_version = 10 if opset > 18 else 8
    # Old exporters list the weights among the inputs.
    for weight in model.graph.initializer:
        model.graph.input.append(
            helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims))
        )
    score = scorer(build_image_model(model, linear))
    assert_scores_equal_those_of_patches([random_plane(5, (90, 80), 40)], score, linear, Limits())


def test_names_inside_the_network_and_graphs_inside_its_nodes_are_kept_apart(
    linear: Path, tmp_path: Path
) -> None:
    """The scores are halved by a branch that sees the constants around it; everything has a name that is taken."""
    model = onnx.load(linear)
    names = {"pixels": "pixel_value", "sum0": "image/canvas", "sum1": "columns", "half": "group/first"}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for weight in model.graph.initializer:
        weight.name = names.get(weight.name, weight.name)
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "hit_gap"))
    tail = model.graph.node[-1]
    tail.output[0] = "em_trk_none_netout"
    branches = [
        helper.make_graph(
            [helper.make_node("Mul", ["em_trk_none_netout", "group/first"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )
        for name in ("background", "image/place")
    ]
    model.graph.node.append(
        helper.make_node("If", ["hit_gap"], [SUFFIXED[1]], then_branch=branches[0], else_branch=branches[1])
    )
    onnx.save(model, path := tmp_path / "odd.onnx")
    score = scorer(build_image_model(model, path))
    assert_scores_equal_those_of_patches([random_plane(6, (90, 80), 40)], score, path, Limits())


def test_a_model_outside_of_the_contract_is_refused(tmp_path: Path) -> None:
    path = write_linear_model(tmp_path / "wide.onnx", linear_weights(), widths=(4, 1))
    with pytest.raises(ModelError, match=r"wide\.onnx.*does not meet the contract"):
        build_image_model(onnx.load(path), path)


def test_a_model_that_cannot_be_converted_is_refused(linear: Path) -> None:
    model = onnx.load(linear)
    model.opset_import[0].version = 6
    model.graph.node.insert(0, helper.make_node("NoSuchOperator", ["main_input:0"], ["nothing"]))
    with pytest.raises(ModelError, match=r"linear\.onnx.*too old.*opset 6"):
        build_image_model(model, linear)


def u16(*values: int) -> NDArray[np.uint16]:
    return np.array(values, np.uint16)


SOUND: dict[str, NDArray[Any]] = {
    "run_gap": u16(5, 10),
    "run_length": np.array([0, 2], np.uint8),
    "pixel_value": np.ones(4, np.float32),
    "hit_gap": u16(0, 60, 12),
    "columns": np.array([120], np.int32),
    "background": np.zeros(1, np.float32),
}
UNSOUND: dict[str, dict[str, NDArray[Any]]] = {
    "pixels behind the canvas": {"run_gap": u16(5, 49 * 120)},
    "pixels far behind the canvas": {"run_gap": u16(65535, 65535)},
    "more values than lengths": {"pixel_value": np.ones(5, np.float32)},
    "fewer values than lengths": {"pixel_value": np.ones(3, np.float32)},
    "no values": {"pixel_value": np.ones(0, np.float32)},
    "more lengths than gaps": {"run_length": np.array([0, 1, 0], np.uint8)},
    "fewer lengths than gaps": {"run_length": np.array([3], np.uint8)},
    "a last patch across the edge": {"hit_gap": u16(0, 60, 13)},
    "a canvas that is too large": {"hit_gap": np.full(300, 65535, np.uint16)},
    "columns that make the canvas too large": {"columns": np.array([2**31 - 1], np.int32)},
    "no hits": {"hit_gap": u16()},
}


def test_a_sound_request_by_hand(score_linear: Score) -> None:
    assert score_linear(SOUND).shape == (3, 4)


@pytest.mark.parametrize("name", UNSOUND)
def test_an_unsound_request_fails_and_the_next_one_is_answered(score_linear: Score, name: str) -> None:
    before = score_linear(SOUND)
    with pytest.raises(Exception, match="image/last" if name == "no hits" else INCONSISTENT):
        score_linear(SOUND | UNSOUND[name])
    np.testing.assert_array_equal(score_linear(SOUND), before)


def test_the_largest_canvas_is_accepted(score_linear: Score) -> None:
    rows = MOST_CANVAS // 4096
    corner = (rows - 48) * 4096 + 4096 - 48
    hits = u16(*[65535] * (corner // 65535), corner % 65535)
    columns = {"columns": np.array([4096], np.int32)}
    assert score_linear(SOUND | columns | {"hit_gap": hits}).shape == (1, 4)
    with pytest.raises(Exception, match=INCONSISTENT):
        score_linear(SOUND | columns | {"hit_gap": np.insert(hits, 0, 4096)})


def test_bridges_alone_have_no_scores(score_linear: Score) -> None:
    assert score_linear(
        SOUND | {"hit_gap": u16(65535, 65535), "columns": np.array([65535], np.int32)}
    ).shape == (0, 4)


@pytest.mark.parametrize("n", [1, 40])
def test_zeros_are_a_sound_request_so_that_servers_can_warm_up(score_linear: Score, n: int) -> None:
    zeros = {name: np.zeros(n if name == "hit_gap" else 1, tensor.dtype) for name, tensor in SOUND.items()}
    np.testing.assert_allclose(score_linear(zeros), 0.5, atol=1e-7)
    assert len(score_linear(zeros)) == n


@pytest.mark.realdata
@pytest.mark.parametrize("name", REAL_FILES)
def test_every_hit_of_real_files_has_the_score_of_its_patch(
    realdata: Path, score_linear: Score, linear: Path, name: str
) -> None:
    """The linear model proves where every pixel stands."""
    planes = [plane for event in real_events(realdata, name) for plane in event]
    for most in (300, 4096):
        assert_scores_equal_those_of_patches(planes, score_linear, linear, Limits(most))


@pytest.mark.realdata
def test_hits_of_a_real_file_have_the_scores_of_the_network(
    realdata: Path, score_untrained: Score, untrained: Path
) -> None:
    [planes] = real_events(realdata, "hd")
    planes = [plane._replace(wire=plane.wire[:700], drift_bin=plane.drift_bin[:700]) for plane in planes]
    assert_scores_equal_those_of_patches(planes, score_untrained, untrained, Limits(1000))
