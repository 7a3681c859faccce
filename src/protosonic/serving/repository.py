"""The model repository that a Triton server loads an ONNX file from, in two forms and for two payloads.

``onnxruntime`` is for production: the backend of that name in the official containers, on GPUs. ``python`` is for the
server on PyPI, which has no other backend: ``model.py`` runs an ONNX Runtime session on the CPU. Whatever the ONNX file
calls its tensors, they are served under the names of the model contract.

A model that takes patches has the name that clients ask for; the one that takes images
(:mod:`protosonic.inference.image_payload`) stands beside it as ``<name>_image``.
"""

from __future__ import annotations

import logging
import re
import shutil
from dataclasses import dataclass, replace
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any, Literal, get_args

import onnx

from protosonic.errors import ConfigError
from protosonic.inference.bundled import bundled_model
from protosonic.inference.contract import OUTPUTS
from protosonic.inference.endpoint_options import IMAGE_SUFFIX
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.inference.untrained import is_untrained
from protosonic.publish import publish_folder, sha256_of
from protosonic.serving.image_model import build_image_model
from protosonic.serving.onnx_file import copy_with_contract_names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = [
    "PAYLOADS",
    "Form",
    "Payload",
    "ServedModel",
    "as_form",
    "as_payloads",
    "read_config",
    "warn_if_untrained",
    "write_repository",
]

Form = Literal["onnxruntime", "python"]
Payload = Literal["patches", "image"]
PAYLOADS: tuple[Payload, ...] = ("patches", "image")

log = logging.getLogger(__name__)

LABELS = {"em_trk_none_netout": "labels_em_trk_none.txt", "michel_netout": "labels_michel.txt"}
"""Output → file with the names of its columns, as LArSoft's example repository calls them."""
IMAGE_GROUPS = {"python": 128, "onnxruntime": 1024}
"""Form → hits of an image request that go through the network together: on a CPU, and on a GPU."""


@dataclass(frozen=True)
class ServedModel:
    """How a model is served.

    Attributes
    ----------
    name, version
        What clients ask for; Triton wants a positive number as version.
    instances
        Sessions that work at the same time; for each GPU in the form ``onnxruntime``.
    threads
        CPU threads of one session, in the form ``python``.
    max_batch_size
        Most patches in a request, and in what is scored together. It bounds the memory: 9,216 bytes a patch on the
        way, and about 400 kB in the network. Requests of images are scored by themselves, in groups of hits.
    max_queue_size
        Requests of patches that may wait; more are turned away, and clients slow down. 0 is no limit.
    queue_timeout_s
        A request that has waited longer is turned away, in seconds; 0 is no limit. It must be shorter than the
        clients' deadline, or the server works for those who have gone.
    tf32
        Whether GPUs may compute in TF32, in the form ``onnxruntime``.
    """

    name: str = "emtrkmichel"
    version: str = "1"
    instances: int = 1
    threads: int = 1
    max_batch_size: int = 2048
    max_queue_size: int = 256
    queue_timeout_s: float = 100.0
    tf32: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", self.name):
            raise ConfigError(
                "the name of a served model may hold letters, digits, '.', '_' and '-' only", found=self.name
            )
        if not re.fullmatch(r"[1-9][0-9]{0,17}", self.version):
            raise ConfigError("the version of a served model must be a positive number", found=self.version)


def as_form(word: str) -> Form:
    """Take a word for a form.

    Raises
    ------
    ConfigError
        There is no such form.
    """
    for form in get_args(Form):
        if word == form:
            return form  # type: ignore[no-any-return]
    raise _unknown("form", word, get_args(Form))


def as_payloads(word: str) -> tuple[Payload, ...]:
    """Take a word for a payload, or ``both`` for both.

    Raises
    ------
    ConfigError
        There is no such payload.
    """
    chosen = tuple(payload for payload in PAYLOADS if word in {payload, "both"})
    if not chosen:
        raise _unknown("payload", word, (*PAYLOADS, "both"))
    return chosen


def _unknown(what: str, word: str, known: Sequence[str]) -> ConfigError:
    return ConfigError(
        f"there is no such {what} of a model repository",
        where=f"--{what}",
        expected=f"one of {', '.join(known)}",
        found=word,
    )


def write_repository(
    folder: Path,
    model: Path | None,
    served: ServedModel,
    form: Form = "python",
    payload: Payload = "patches",
) -> Path:
    """Write a model into a repository, beside the versions of it that are there already.

    Parameters
    ----------
    folder
        The repository; created where it is missing. It gets ``<name>/`` with ``config.pbtxt``, for patches the label
        files, and in ``<version>/`` the ONNX file and what the form needs. The same version is replaced; others
        stay, and are served with the new settings.
    model
        ONNX file that meets the model contract; the bundled model by default.
    served
        How to serve it.
    form
        Which backend loads it.
    payload
        What it takes. With ``image`` the name gets the suffix ``_image``.

    Returns
    -------
    The folder of the model.

    Raises
    ------
    ModelError
        The file is not a model, does not meet the contract, or cannot be given an image form.
    ConfigError
        The repository holds a model of that name in another form.
    """
    if model is None:
        model = bundled_model()
    OnnxRuntimeBackend(model, threads=1).close()
    if payload == "image":
        served = replace(served, name=served.name + IMAGE_SUFFIX)
    target = folder / served.name
    checksums = _other_versions(target, served, form)
    with publish_folder(target) as part:
        for version in checksums:
            shutil.copytree(target / version, part / version)
        checksums[served.version] = sha256_of(model)
        own = part / served.version
        own.mkdir()
        if payload == "image":
            image_model = build_image_model(onnx.load(model), model, group=IMAGE_GROUPS[form])
            onnx.save(image_model, own / "model.onnx")
        else:
            copy_with_contract_names(model, own / "model.onnx")
            for output, name in LABELS.items():
                (part / name).write_text("".join(f"{label}\n" for label in OUTPUTS[output]), encoding="utf-8")
        if form == "python":
            (own / "model.py").write_text(_packaged(f"triton_{payload}.py.txt"), encoding="utf-8")
        (part / "config.pbtxt").write_text(_config(served, form, payload, checksums), encoding="utf-8")
    return target


def warn_if_untrained(model: Path | None) -> None:
    """Say in the log that a model is untrained; the bundled one, ``None``, is trained."""
    if model is not None and model.is_file() and is_untrained(model):
        log.warning("the model is untrained: its scores mean nothing")


def read_config(path: Path) -> Any:
    """Read a ``config.pbtxt`` (``inference.ModelConfig``).

    Raises
    ------
    ConfigError
        It cannot be read as one.
    """
    # The configuration has its message in Triton's client library.
    from google.protobuf import text_format  # type: ignore[import-untyped]
    from tritonclient.grpc import model_config_pb2

    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except (OSError, ValueError, text_format.ParseError) as error:
        raise ConfigError(
            "this is not the configuration of a Triton model", file=path, found=str(error)
        ) from error


def _other_versions(target: Path, served: ServedModel, form: Form) -> dict[str, str]:
    """Give the checksums of the other versions that are there, and make sure that they can be served alike."""
    if not target.exists():
        return {}
    config = read_config(target / "config.pbtxt")
    checksums = {
        key.rpartition("_")[2]: value.string_value
        for key, value in config.parameters.items()
        if key.startswith("model_sha256_") and key != f"model_sha256_{served.version}"
    }
    if checksums and config.backend != form:
        raise ConfigError(
            "versions of one model must have one form",
            file=target,
            expected=form,
            found=f"version {', '.join(checksums)} for the backend {config.backend}",
            hint="Choose another --name or --form, or remove the folder",
        )
    return checksums


def _config(served: ServedModel, form: Form, payload: Payload, checksums: dict[str, str]) -> str:
    parts = (f"config_{payload}", "config_common", f"config_{form}")
    config = Template("".join(_packaged(f"{part}.pbtxt.txt") for part in parts)).substitute(
        name=served.name,
        max_batch_size=served.max_batch_size,
        versions=", ".join(sorted(checksums, key=int)),
        batching=f"dynamic_batching {{\n{_queue_policy(served)}}}",
        group=IMAGE_GROUPS[form],
        instances=served.instances,
        threads=served.threads,
        tf32="on" if served.tf32 else "off",
        use_tf32=int(served.tf32),
    )
    lines = [
        "# The file that each version was made of, so that a campaign's provenance can be compared with it.\n"
    ]
    lines += [
        f'parameters {{ key: "model_sha256_{version}" value {{ string_value: "{checksums[version]}" }} }}\n'
        for version in sorted(checksums, key=int)
    ]
    return config + "".join(lines)


def _queue_policy(served: ServedModel) -> str:
    """Give the bounds of the queue; none at all where there are none, because any policy costs throughput."""
    if not served.max_queue_size and not served.queue_timeout_s:
        return ""
    return f"""\
  # A full queue turns requests away at once, so that clients slow down instead of waiting in vain; what has waited longer
  # than any client waits is not worth the work.
  default_queue_policy {{
    timeout_action: REJECT
    default_timeout_microseconds: {round(served.queue_timeout_s * 1e6)}
    allow_timeout_override: true
    max_queue_size: {served.max_queue_size}
  }}
"""


def _packaged(name: str) -> str:
    return files("protosonic.serving").joinpath(name).read_text(encoding="utf-8")
