"""Patterns on servers match what they match on a local disk."""

from __future__ import annotations

import glob
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protosonic.remote.wildcards import matching

NAMES = ("a.h5", "b.h5", ".h.h5", "x/a.h5", "x/y/a.h5", "x/y/c.txt", ".k/a.h5", "y/b1.h5", "y/x/a.h5")
SEGMENT = st.sampled_from(["*", "**", "*.h5", "x", "y", "?", "[xy]", "a.h5", "b*", ".*", "[!a].h5"])


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def entries(folder: str) -> list[tuple[str, bool]]:
    try:
        return [(entry.name, entry.is_dir()) for entry in os.scandir(folder)]
    except OSError:
        return []


@given(segments=st.lists(SEGMENT, min_size=1, max_size=4))
def test_patterns_match_as_on_a_local_disk(tree, segments):
    # The last one names files; a literal there is no pattern, and "**" alone is a shell's matter.
    pattern = "/".join([*segments, "*.h5"])
    expected = {path for path in glob.glob(f"{tree}/{pattern}", recursive=True) if Path(path).is_file()}  # noqa: PTH207
    assert set(matching(f"{tree}/{pattern}", entries)) == expected


def test_a_folder_stands_for_its_files(tree):
    assert list(matching(f"{tree}/x/y/", entries)) == [f"{tree}/x/y/a.h5", f"{tree}/x/y/c.txt"]
