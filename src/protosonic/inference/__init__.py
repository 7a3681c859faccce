"""Scores from patches: the model contract, the backends and the dispatcher. Knows neither Snakemake nor files of events."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protosonic.inference.client import Client
    from protosonic.inference.contract import SCORE_NAMES
    from protosonic.inference.endpoint_options import EndpointOptions
    from protosonic.inference.hits import HitsOnImage, ImageBatch

__all__ = ["SCORE_NAMES", "Client", "EndpointOptions", "HitsOnImage", "ImageBatch"]

_HOMES = {
    "Client": "client",
    "EndpointOptions": "endpoint_options",
    "HitsOnImage": "hits",
    "ImageBatch": "hits",
    "SCORE_NAMES": "contract",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: commands that need none of it must start at once."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
