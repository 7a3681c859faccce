"""``protosonic config explain``: the texts of the model on the terminal."""

from __future__ import annotations

import pytest

from protosonic.config.load import known_keys
from protosonic.config.render import explain
from protosonic.errors import ConfigError


def headlines(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(" ")]


def test_everything_is_explained_by_default():
    assert [line.split()[0] for line in headlines(explain())] == known_keys()


def test_section_is_explained_with_its_keys():
    assert headlines(explain("merge")) == [
        "merge.target_rows (default 4000000)",
        "merge.row_group_rows (default 250000)",
        "merge.bundle_partitions (default 100)",
    ]


def test_one_key_is_explained_with_its_default_and_meaning():
    assert explain("inference.policy") == (
        'inference.policy (default "endpoint-first")\n'
        "    endpoint-first: the endpoints, else the CPU; endpoint-only: never the CPU; cpu-only: never an\n"
        "    endpoint; cooperative: the job's own cores work from the other end of the queue while the endpoints\n"
        "    serve."
    )


def test_key_without_a_default_is_called_required():
    assert headlines(explain("inputs.path")) == ["inputs.path (required)"]


def test_key_is_not_taken_for_another_that_begins_alike():
    assert headlines(explain("model.name")) == ['model.name (default "emtrkmichel")']
    with pytest.raises(ConfigError):
        explain("model.nam")


def test_unknown_key_is_refused_with_all_that_are_known():
    with pytest.raises(ConfigError, match=r"^zebra: no such key\. Known keys: campaign\.name, .*acceptance"):
        explain("zebra")
