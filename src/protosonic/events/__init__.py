"""Events: their model, the readers of all input formats, and the hit finder."""

from __future__ import annotations
