"""Batch production of neural-network hit classification for liquid-argon neutrino detectors."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
