"""What all sections of the configuration have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Section"]


class Section(BaseModel):
    """A section: unknown keys are errors, and nothing changes once it is checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
