"""A fast generator of plausible events, for demonstrations and tests."""

from __future__ import annotations
