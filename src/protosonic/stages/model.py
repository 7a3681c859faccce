"""Stage ``model``: the configured model → a checked ONNX file and its record."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from protosonic.campaign.records import ModelRecord, write_record
from protosonic.config.model import BUNDLED
from protosonic.errors import ModelError
from protosonic.publish import publish, sha256_of

if TYPE_CHECKING:
    from protosonic.config import Settings

__all__ = ["check_model", "model_file", "prepare_model"]

log = logging.getLogger(__name__)


def prepare_model(
    settings: Settings, output: Path, record_file: Path, weights: Path | None = None
) -> ModelRecord:
    """Put the model of a campaign in its place, check it against the contract and write its record.

    The configured file is copied, so that replacing it does not change a campaign that runs.

    Parameters
    ----------
    settings
        ``model``, ``inference.precision`` and ``preprocess.profile`` are used.
    output
        The ONNX file to write.
    record_file
        JSON file of the record.
    weights
        Where to write what jobs on the CPU would otherwise find out one by one
        (:mod:`~protosonic.inference.sparse_engine.weights_file`).

    Raises
    ------
    ModelError
        The model is missing, does not meet the contract, or must not be used with ``precision: fast``.
    """
    with publish(output) as part:
        shutil.copyfile(model_file(settings.model.path), part)
    if weights is None:
        record = check_model(output)
    else:  # recognising the network checks it as well
        from protosonic.inference.cpu_backend import know_network
        from protosonic.inference.sparse_engine.weights_file import write_weights

        network = know_network(output)
        record = _record(output)
        write_weights(weights, network, record.sha256)
    record = record.model_copy(update={"path": settings.model.path})
    if settings.inference.precision == "fast":
        from protosonic.stages.precision import check_fast_precision

        fast = check_fast_precision(output, settings.preprocess.profile)
        log.info("precision fast: %s", fast.model_dump())
        record = record.model_copy(update={"fast": fast})
    write_record(record_file, record)
    log.info("%s: sha256 %s%s", record.path, record.sha256, ", untrained" if record.untrained else "")
    return record


def model_file(model: str) -> Path:
    """Give the file of a model: an ONNX file, or ``bundled``.

    Raises
    ------
    ModelError
        There is no such file.
    """
    from protosonic.inference.bundled import bundled_model

    path = bundled_model() if model == BUNDLED else Path(model)
    _check_file(path)
    return path


def check_model(path: Path) -> ModelRecord:
    """Check that a file meets the model contract.

    Raises
    ------
    ModelError
        It is missing, cannot be loaded, or does not meet the contract.
    """
    from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend

    _check_file(path)
    OnnxRuntimeBackend(path, threads=1).close()
    return _record(path)


def _record(path: Path) -> ModelRecord:
    from protosonic.inference.untrained import is_untrained

    return ModelRecord(path=str(path), sha256=sha256_of(path), untrained=is_untrained(path))


def _check_file(path: Path) -> None:
    from protosonic.inference.foreign_models import refuse_foreign_model

    if not path.exists():
        raise ModelError(
            "there is no such model file",
            file=path,
            hint="Set model.path to an ONNX file, or to 'bundled'; relative paths start at the working directory",
        )
    refuse_foreign_model(path)
