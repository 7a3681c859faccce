"""One module per rule of the workflow: what ``protosonic catalog``, ``partition``, … do."""

from __future__ import annotations
