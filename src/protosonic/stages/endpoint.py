"""The check of an endpoint, from the words of the command line to the record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from protosonic.config.model import Endpoint
from protosonic.errors import ConfigError
from protosonic.inference.bundled import bundled_model
from protosonic.inference.endpoint_options import EndpointOptions
from protosonic.inference.golden import Reference
from protosonic.inference.onnxruntime_backend import OnnxRuntimeBackend
from protosonic.publish import publish_json
from protosonic.serving.endpoint_check import examine_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from protosonic.serving.endpoint_report import EndpointReport

__all__ = ["check_endpoint", "check_url", "parse_concurrencies"]


def check_url(
    endpoint: dict[str, Any],
    name: str,
    version: str,
    model: Path | None,
    tolerance: float,
    concurrencies: tuple[int, ...],
    seconds: float,
    record: Path | None,
    on_progress: Callable[[str], None],
) -> EndpointReport:
    """Check an endpoint against a local model.

    Parameters
    ----------
    endpoint
        Keys of ``inference.endpoints``; those that are ``None`` are left out.
    name, version
        Of the model at the endpoint; an empty version leaves the choice to the server.
    model
        The ONNX file that it should serve; the bundled model by default.
    tolerance
        Largest difference of a score that counts as equal.
    concurrencies, seconds
        Requests in flight, and the duration, of each measurement.
    record
        JSON file to write.
    on_progress
        Gets one line before each measurement.

    Raises
    ------
    ConfigError
        The URL or an option is wrong, or a file cannot be read.
    ModelError
        The ONNX file does not meet the model contract.
    """
    options = _options(endpoint, name, version)
    reference = _reference(model, tolerance)
    report = examine_endpoint(options, reference, concurrencies, seconds, on_progress)
    if record is not None:
        publish_json(record, report.to_json())
    return report


def check_endpoint(
    endpoint: Endpoint, name: str, version: str, model: Path | None, tolerance: float
) -> EndpointReport:
    """Check an endpoint of a configuration against a local model, without measuring it.

    Parameters
    ----------
    endpoint
        One of ``inference.endpoints``.
    name, version, model, tolerance
        As for :func:`check_url`.

    Raises
    ------
    ConfigError
        A file of certificates or a token cannot be read, or the model cannot.
    ModelError
        The ONNX file does not meet the model contract.
    """
    return examine_endpoint(_options_of(endpoint, name, version), _reference(model, tolerance), ())


def parse_concurrencies(text: str) -> tuple[int, ...]:
    """Read a list such as ``1,2,4``; an empty one asks for no measurement.

    Raises
    ------
    ConfigError
        It is something else.
    """
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    if not all(word.isdecimal() and 0 < int(word) <= 256 for word in words):
        raise ConfigError(
            "this is no list of concurrencies",
            where="--concurrency",
            expected="numbers from 1 to 256, such as 1,2,4,8",
            found=text,
        )
    return tuple(int(word) for word in words)


def _options(endpoint: dict[str, Any], name: str, version: str) -> EndpointOptions:
    given = {key: str(value) for key, value in endpoint.items() if value is not None}
    try:
        checked = Endpoint.model_validate(given)
    except ValidationError as error:
        raise ConfigError(
            "; ".join(
                ": ".join([*map(str, part["loc"]), part["msg"].removeprefix("Value error, ")])
                for part in error.errors()
            ),
            where="the endpoint",
        ) from error
    return _options_of(checked, name, version)


def _options_of(checked: Endpoint, name: str, version: str) -> EndpointOptions:
    def path(value: str | None) -> Path | None:
        return None if value is None else Path(value)

    return EndpointOptions(
        checked.url,
        name,
        version,
        ca_file=path(checked.ca_file),
        cert_file=path(checked.cert_file),
        key_file=path(checked.key_file),
        token_file=path(checked.token_file),
        token_env=checked.token_env,
        compression=checked.compression,
        headers=checked.headers,
    )


def _reference(model: Path | None, tolerance: float) -> Reference:
    backend = OnnxRuntimeBackend(model or bundled_model(), threads=1)
    try:
        return Reference(backend.infer, tolerance)
    finally:
        backend.close()
