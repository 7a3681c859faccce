"""What is written for the image form; the real server loads it in tests/integration/test_image_payload.py."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from protosonic.errors import ConfigError, ModelError
from protosonic.inference.contract import OUTPUTS
from protosonic.inference.endpoint_options import IMAGE_SUFFIX
from protosonic.inference.image_payload import IMAGE_INPUTS
from protosonic.publish import sha256_of
from protosonic.serving.repository import ServedModel, as_form, read_config, write_repository
from support.models import linear_weights, write_linear_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_linear_model(tmp_path / "linear.onnx", linear_weights())


@pytest.mark.parametrize("form", ["onnxruntime", "python"])
def test_both_forms_declare_the_tensors_of_a_request(tmp_path: Path, model: Path, form: str) -> None:
    folder = write_repository(
        tmp_path / "models", model, ServedModel("cnn", "3"), as_form(form), payload="image"
    )
    assert folder == tmp_path / "models" / f"cnn{IMAGE_SUFFIX}"
    config = read_config(folder / "config.pbtxt")
    types = {
        tensor.name: tensor.DESCRIPTOR.fields_by_name["data_type"]
        .enum_type.values_by_number[tensor.data_type]
        .name
        for tensor in config.input
    }
    assert types == {name: f"TYPE_{spec.dtype}" for name, spec in IMAGE_INPUTS.items()}
    assert {tensor.name: tuple(n if n >= 0 else None for n in tensor.dims) for tensor in config.input} == {
        name: spec.shape for name, spec in IMAGE_INPUTS.items()
    }
    assert {output.name: list(output.dims) for output in config.output} == {
        name: [-1, len(classes)] for name, classes in OUTPUTS.items()
    }
    graph = onnx.load(folder / "3" / "model.onnx").graph
    assert [tensor.name for tensor in graph.input] == list(IMAGE_INPUTS)
    assert config.parameters["model_sha256_3"].string_value == sha256_of(model)
    warm_ups = [
        {key: list(tensor.dims) for key, tensor in warm_up.inputs.items()} for warm_up in config.model_warmup
    ]
    assert [warm_up["hit_gap"] for warm_up in warm_ups] == [
        [1],
        [int(config.parameters["group"].string_value)],
    ]


def test_a_new_version_stands_beside_the_old_one(tmp_path: Path, model: Path) -> None:
    other = write_linear_model(tmp_path / "other.onnx", linear_weights(seed=2))
    first = write_repository(tmp_path / "models", model, ServedModel(version="1"), payload="image")
    before = (first / "1" / "model.onnx").read_bytes()
    assert write_repository(tmp_path / "models", other, ServedModel(version="10"), payload="image") == first
    config = read_config(first / "config.pbtxt")
    assert list(config.version_policy.specific.versions) == [1, 10]
    assert (first / "1" / "model.onnx").read_bytes() == before
    assert config.parameters["model_sha256_1"].string_value == sha256_of(model)
    assert config.parameters["model_sha256_10"].string_value == sha256_of(other)


def test_versions_of_one_model_have_one_form(tmp_path: Path, model: Path) -> None:
    write_repository(tmp_path, model, ServedModel(version="1"), payload="image")
    with pytest.raises(ConfigError, match="one form"):
        write_repository(tmp_path, model, ServedModel(version="2"), "onnxruntime", payload="image")


def test_nothing_is_written_for_a_model_outside_of_the_contract(tmp_path: Path) -> None:
    wide = write_linear_model(tmp_path / "wide.onnx", linear_weights(), widths=(4, 1))
    with pytest.raises(ModelError, match="does not meet the contract"):
        write_repository(tmp_path / "models", wide, ServedModel(), payload="image")
    assert not (tmp_path / "models").exists()
