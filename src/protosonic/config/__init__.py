"""The configuration: its model, reading it, and rendering it as text."""

from __future__ import annotations

from protosonic.config.inputs import Input, Remote
from protosonic.config.load import check_settings, load_settings
from protosonic.config.model import Endpoint, Inference, Preprocess, Settings, demo_settings

__all__ = [
    "Endpoint",
    "Inference",
    "Input",
    "Preprocess",
    "Remote",
    "Settings",
    "check_settings",
    "demo_settings",
    "load_settings",
]
