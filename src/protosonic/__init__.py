"""Batch production of neural-network hit classification for liquid-argon neutrino detectors."""

from __future__ import annotations

import os

# ONNX Runtime collects usage data and writes it to the home directory unless told otherwise before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["__version__"]

__version__ = "0.1.0"
