"""What a network is worth: figures of merit of scores where the truth is known."""

from __future__ import annotations
