from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from protosonic.campaign.records import EventRecord, FileRecord, InputSpec
from protosonic.config import Settings, check_settings


@pytest.fixture(scope="session")
def make_settings() -> Callable[..., Settings]:
    """Make settings from sections; the inputs are not looked at."""

    def make(**sections: dict[str, Any]) -> Settings:
        return check_settings({"inputs": [{"path": "a.h5"}]} | sections)

    return make


@pytest.fixture(scope="session")
def make_file() -> Callable[..., FileRecord]:
    """Make the record of a file from the hits of its events; events count from `first` in run 1."""

    def make(path: str, *hits: int, first: int = 1, **changes: Any) -> FileRecord:
        events = tuple(
            EventRecord(
                entry=entry, run=1, subrun=0, event=first + entry, hits_by_plane=(0, 0, n), n_samples=n
            )
            for entry, n in enumerate(hits)
        )
        record = FileRecord(
            path=path,
            size=1,
            mtime_ns=1,
            sha256=hashlib.sha256(path.encode()).hexdigest(),
            spec=InputSpec(),
            format="native",
            detector="protodune-sp",
            events=events,
        )
        return record.model_copy(update=changes)

    return make
