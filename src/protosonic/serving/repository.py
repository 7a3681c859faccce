"""The model repository that a Triton server loads an ONNX file from.

It is of the form that the python backend reads, the one backend of the server on PyPI: ``model.py`` runs an ONNX
Runtime session. Whatever the ONNX file calls its tensors, they are served under the names of the model contract.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

import onnx

from protosonic.errors import ConfigError
from protosonic.inference.contract import INPUT_NAME, ModelTensors, TensorSpec
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.publish import publish_folder, sha256_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ServedModel", "write_repository"]


@dataclass(frozen=True)
class ServedModel:
    """How a model is served.

    Attributes
    ----------
    name, version
        What clients ask for; Triton wants a positive number as version.
    instances
        Sessions that work at the same time.
    threads
        CPU threads of one session.
    max_batch_size
        Most patches in a request; also bounds the shared memory between server and session (9,216 bytes a patch).
    """

    name: str = "emtrkmichel"
    version: str = "1"
    instances: int = 1
    threads: int = 1
    max_batch_size: int = 1024

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", self.name):
            raise ConfigError(
                "the name of a served model may hold letters, digits, '.', '_' and '-' only", found=self.name
            )
        if not re.fullmatch(r"[1-9][0-9]{0,17}", self.version):
            raise ConfigError("the version of a served model must be a positive number", found=self.version)


def write_repository(folder: Path, model: Path, served: ServedModel) -> None:
    """Write a model into a repository; one of the same name is replaced.

    Parameters
    ----------
    folder
        The repository; created where it is missing. It gets ``<name>/config.pbtxt`` and, in ``<name>/<version>/``,
        ``model.py`` and a copy of the ONNX file.
    model
        ONNX file that meets the model contract.
    served
        How to serve it.

    Raises
    ------
    ModelError
        The file is not a model, or does not meet the contract.
    """
    OnnxRuntimeBackend(model, threads=1).close()
    tensors = _tensors(model)
    names = {INPUT_NAME: tensors.input, **tensors.outputs}
    with publish_folder(folder / served.name) as part:
        version = part / served.version
        version.mkdir()
        shutil.copyfile(model, version / "model.onnx")
        (version / "model.py").write_text(_packaged("triton_model.py.txt"), encoding="utf-8")
        config = Template(_packaged("config.pbtxt.txt")).substitute(
            name=served.name,
            max_batch_size=served.max_batch_size,
            instances=served.instances,
            threads=served.threads,
            model_sha256=sha256_of(version / "model.onnx"),
            # Strings of JSON are strings of protobuf text too.
            **{name: json.dumps(in_file) for name, in_file in names.items()},
        )
        (part / "config.pbtxt").write_text(config, encoding="utf-8")


def _tensors(model: Path) -> ModelTensors:
    """Read the names that a model gives to the tensors of the contract."""
    graph = onnx.load(model, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}  # old files list them as inputs as well
    return ModelTensors.match(
        [_spec(value) for value in graph.input if value.name not in weights],
        [_spec(value) for value in graph.output],
        what=str(model),
    )


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = onnx.TensorProto.DataType.Name(tensor.elem_type)
    shape = tuple(size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim)
    return TensorSpec(value.name, "FP32" if dtype == "FLOAT" else dtype, shape)


def _packaged(name: str) -> str:
    return files("protosonic.serving").joinpath(name).read_text(encoding="utf-8")
