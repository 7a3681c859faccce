"""The files under config/ are made from the configuration model."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from protosonic.config import demo_settings, load_settings
from protosonic.config.render import schema_json, settings_yaml

CONFIG = Path(__file__).parents[3] / "config"


@pytest.mark.parametrize(("name", "render"), [("config.yaml", settings_yaml), ("schema.json", schema_json)])
def test_generated_file_is_what_the_model_makes(name, render):
    stored = (CONFIG / name).read_text(encoding="utf-8")
    diff = difflib.unified_diff(
        stored.splitlines(keepends=True),
        render().splitlines(keepends=True),
        f"config/{name}",
        "made from the model",
    )
    drift = "".join(diff)
    assert not drift, f"config/{name} has drifted; mend it with: make generated\n{drift}"


def test_generated_configuration_loads_to_the_demonstration_settings():
    assert load_settings(CONFIG / "config.yaml") == demo_settings()


def test_generated_configuration_explains_every_key_with_a_comment_above_it():
    lines = settings_yaml().splitlines()
    keys = [number for number, line in enumerate(lines) if line and not line.lstrip().startswith("#")]
    assert len(keys) > 30
    assert all(lines[number - 1].lstrip().startswith("# ") for number in keys)


def test_schema_accepts_the_generated_configuration():
    content = yaml.safe_load((CONFIG / "config.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(content, json.loads(schema_json()))


@pytest.mark.parametrize(
    "change",
    [
        {"partition": {"target_hits": 0}},
        {"unknown": 1},
        {"inputs": []},
        {"inference": {"policy": "sometimes"}},
    ],
)
def test_schema_refuses_what_the_model_refuses(change):
    content = yaml.safe_load((CONFIG / "config.yaml").read_text(encoding="utf-8")) | change
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, json.loads(schema_json()))
