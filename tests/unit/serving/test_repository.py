"""What ``protosonic model repository`` writes; the real server loads it in tests/integration/test_model_repository.py."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest

from protosonic.errors import ConfigError, ModelError
from protosonic.inference.bundled import bundled_model
from protosonic.inference.untrained import write_untrained_model
from protosonic.publish import sha256_of
from protosonic.serving.repository import (
    ServedModel,
    as_form,
    read_config,
    warn_if_untrained,
    write_repository,
)
from support.models import linear_weights, write_linear_model

SUFFIXED = ("em_trk_none_netout/Softmax:0", "michel_netout/Sigmoid:0")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_linear_model(
        tmp_path / "linear.onnx", linear_weights(), output_names=SUFFIXED, input_name="main_input:0"
    )


@pytest.mark.parametrize("form", ["onnxruntime", "python"])
def test_both_forms_describe_the_contract_and_bound_the_queue(tmp_path: Path, model: Path, form: str) -> None:
    served = ServedModel("cnn", "7", instances=2, max_batch_size=900, max_queue_size=64, queue_timeout_s=2.5)
    folder = write_repository(tmp_path / "repository", model, served, as_form(form))
    assert folder == tmp_path / "repository" / "cnn"
    config = read_config(folder / "config.pbtxt")
    assert (config.name, config.backend, config.max_batch_size) == ("cnn", form, 900)
    [given] = config.input
    assert (given.name, list(given.dims)) == ("main_input", [48, 48, 1])
    assert [(output.name, list(output.dims)) for output in config.output] == [
        ("em_trk_none_netout", [3]),
        ("michel_netout", [1]),
    ]
    assert {tensor.data_type for tensor in (given, *config.output)} == {given.data_type}
    labels = [(folder / output.label_filename).read_text().split() for output in config.output]
    assert labels == [["track", "em", "none"], ["michel"]]
    policy = config.dynamic_batching.default_queue_policy
    assert policy.timeout_action == policy.REJECT
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (64, 2_500_000)
    assert policy.allow_timeout_override
    assert list(config.version_policy.specific.versions) == [7]
    assert not config.response_cache.enable
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 900]
    assert config.parameters["model_sha256_7"].string_value == sha256_of(model)
    assert config.instance_group[0].count == 2
    graph = onnx.load(folder / "7" / "model.onnx").graph
    assert [tensor.name for tensor in graph.input] == ["main_input"]
    assert [tensor.name for tensor in graph.output] == ["em_trk_none_netout", "michel_netout"]


def test_the_form_for_production_works_on_gpus_in_full_precision(tmp_path: Path, model: Path) -> None:
    folder = write_repository(tmp_path, model, ServedModel(), "onnxruntime")
    config = read_config(folder / "config.pbtxt")
    assert config.platform == "onnxruntime_onnx"
    [group] = config.instance_group
    assert group.kind == group.KIND_GPU
    [accelerator] = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert (accelerator.name, dict(accelerator.parameters)) == ("cuda", {"use_tf32": "0"})
    assert config.parameters["tf32"].string_value == "off"
    assert config.parameters["cudnn_conv_algo_search"].string_value == "1"
    assert sorted(path.name for path in (folder / "1").iterdir()) == ["model.onnx"]


def test_tf32_is_a_decision_that_is_recorded(tmp_path: Path, model: Path) -> None:
    config = read_config(
        write_repository(tmp_path, model, ServedModel(tf32=True), "onnxruntime") / "config.pbtxt"
    )
    [accelerator] = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.parameters["use_tf32"] == "1"
    assert config.parameters["tf32"].string_value == "on"


def test_a_new_version_stands_beside_the_old_one(tmp_path: Path, model: Path) -> None:
    other = write_linear_model(tmp_path / "other.onnx", linear_weights(seed=2))
    repository = tmp_path / "repository"
    for file, version in ((model, "2"), (other, "10"), (other, "2")):
        folder = write_repository(repository, file, ServedModel(version=version), "onnxruntime")
    config = read_config(folder / "config.pbtxt")
    assert list(config.version_policy.specific.versions) == [2, 10]
    assert {key: value.string_value for key, value in config.parameters.items() if "sha256" in key} == {
        "model_sha256_2": sha256_of(other),
        "model_sha256_10": sha256_of(other),
    }
    assert (folder / "2" / "model.onnx").read_bytes() == (folder / "10" / "model.onnx").read_bytes()


def test_versions_of_two_forms_do_not_mix(tmp_path: Path, model: Path) -> None:
    write_repository(tmp_path, model, ServedModel(version="1"), "python")
    with pytest.raises(ConfigError, match="versions of one model must have one form") as caught:
        write_repository(tmp_path, model, ServedModel(version="2"), "onnxruntime")
    assert "version 1 for the backend python" in str(caught.value)
    write_repository(tmp_path, model, ServedModel(version="1"), "onnxruntime")


def test_a_folder_that_is_no_model_is_left_alone(tmp_path: Path, model: Path) -> None:
    (tmp_path / "emtrkmichel").mkdir()
    (tmp_path / "emtrkmichel" / "config.pbtxt").write_text("zebra: 1\n")
    with pytest.raises(ConfigError, match="not the configuration of a Triton model"):
        write_repository(tmp_path, model, ServedModel())
    assert (tmp_path / "emtrkmichel" / "config.pbtxt").read_text() == "zebra: 1\n"


def test_without_a_file_the_bundled_model_is_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_repository(tmp_path, None, ServedModel(), "onnxruntime")
    assert (folder / "1" / "model.onnx").read_bytes() == bundled_model().read_bytes()
    warn_if_untrained(None)
    warn_if_untrained(folder / "1" / "model.onnx")
    assert "untrained" not in caplog.text


def test_an_untrained_model_is_said_to_be_untrained(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_untrained_model(tmp_path / "untrained.onnx")
    folder = write_repository(tmp_path, tmp_path / "untrained.onnx", ServedModel(), "onnxruntime")
    warn_if_untrained(folder / "1" / "model.onnx")
    assert caplog.text.count("untrained") == 1


def test_a_model_outside_the_contract_writes_nothing(tmp_path: Path) -> None:
    bad = write_linear_model(tmp_path / "bad.onnx", linear_weights(), widths=(4, 1))
    with pytest.raises(ModelError, match="does not meet the contract"):
        write_repository(tmp_path / "repository", bad, ServedModel(), "onnxruntime")
    assert not (tmp_path / "repository").exists()


def test_every_placeholder_of_the_templates_is_filled(tmp_path: Path, model: Path) -> None:
    for form in ("onnxruntime", "python"):
        folder = write_repository(tmp_path / form, model, ServedModel(), as_form(form))
        assert not re.search(r"[$]", (folder / "config.pbtxt").read_text())


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected one of onnxruntime, python, found tensorrt"):
        as_form("tensorrt")
