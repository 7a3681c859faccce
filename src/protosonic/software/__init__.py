"""The software on a node: what it needs, whether it is there, and how to take it along."""

from __future__ import annotations
