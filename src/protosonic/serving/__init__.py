"""Serving: the model repository of a Triton server, and the genuine server itself on this machine."""

from __future__ import annotations
