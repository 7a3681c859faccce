"""The network that comes with protosonic."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

__all__ = ["bundled_model"]


def bundled_model() -> Path:
    """Give the ONNX file of the bundled network; ``docs/model_card.md`` says what it is."""
    return Path(str(resources.files("protosonic.models") / "emtrkmichel.onnx"))
