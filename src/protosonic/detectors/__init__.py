"""Detectors as data: readout units, planes, channel ↔ wire tables, ticks and sampling.

One JSON file per detector stands in ``data/``; see :mod:`protosonic.detectors.geometry` for its meaning.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protosonic.detectors.geometry import Detector

__all__ = ["detector_names", "load_detector"]


@cache
def detector_names() -> tuple[str, ...]:
    """List the detectors that are known, in alphabetical order."""
    files = resources.files("protosonic.detectors").joinpath("data").iterdir()
    return tuple(sorted(file.name.removesuffix(".json") for file in files if file.name.endswith(".json")))


@cache
def load_detector(name: str) -> Detector:
    """Return the description of a detector.

    Raises
    ------
    protosonic.errors.ConfigError
        There is no detector of that name.
    """
    from protosonic.detectors.geometry import Detector
    from protosonic.errors import ConfigError

    if name not in detector_names():
        raise ConfigError(f"unknown detector '{name}'", hint=f"Known: {', '.join(detector_names())}")
    return Detector.from_json(
        resources.files("protosonic.detectors").joinpath("data", f"{name}.json").read_text()
    )
