"""The configuration: its model, reading it, and rendering it as text."""

from __future__ import annotations

from protosonic.config.inputs import Input, Remote
from protosonic.config.load import check_settings, load_settings, load_site
from protosonic.config.model import Endpoint, Inference, Preprocess, Settings, demo_settings
from protosonic.config.site import Site

__all__ = [
    "Endpoint",
    "Inference",
    "Input",
    "Preprocess",
    "Remote",
    "Settings",
    "Site",
    "check_settings",
    "demo_settings",
    "load_settings",
    "load_site",
]
