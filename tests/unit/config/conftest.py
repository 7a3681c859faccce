from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from protosonic.config import Settings, load_settings
from protosonic.errors import ConfigError


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Settings]:
    """Load a configuration from text."""

    def load_text(text: str) -> Settings:
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return load_settings(path)

    return load_text


@pytest.fixture
def problems(load: Callable[[str], Settings], tmp_path: Path) -> Callable[[str], list[str]]:
    """List the problems that are found in a configuration; the file's name and their number are checked here."""

    def find(text: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(text)
        head, *lines = str(caught.value).split("\n  ")
        count = f"{len(lines)} problem{'s' if len(lines) > 1 else ''}"
        assert head == f"{tmp_path / 'config.yaml'}: {count} in the configuration"
        return lines

    return find
