"""How much a campaign and its endpoints can do: an analytic model, a simulation, and what limits them."""

from __future__ import annotations
