"""Files that several tests start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from .builders import hit_table, wire_table, write_numl


@pytest.fixture
def with_wires(tmp_path: Path) -> Path:
    """A numl file of two events that can be classified."""
    return write_numl(tmp_path / "wires.h5", hit_table(), wire_table())
