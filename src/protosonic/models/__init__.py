"""The network that comes with protosonic, and how it was trained."""

from __future__ import annotations
