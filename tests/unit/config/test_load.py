"""Reading a configuration: all problems at once, each with its place and what to do."""

from __future__ import annotations

import pytest

from protosonic.config import check_settings, load_settings
from protosonic.detectors import detector_names
from protosonic.errors import ConfigError
from protosonic.images.profiles import profile_names

INPUTS = "inputs: [{path: data/a.h5}]\n"


def test_all_problems_of_a_file_are_reported_at_once_with_their_lines(problems):
    text = """\
inputs:
  - path: a.h5
    detector: protodun-sp
preprocess:
  profile: protodune-sp-2020
  planes: [0, 7]
partition: {target_hits: 0}
inference:
  policy: sometimes
  threads: many
model: [1]
"""
    detectors, profiles = ", ".join(detector_names()), ", ".join(profile_names())
    policies = "'endpoint-first', 'endpoint-only', 'cpu-only' or 'cooperative'"
    no_integer = "input should be a valid integer, unable to parse string as an integer"
    assert problems(text) == [
        f"line 3: inputs[0].detector: unknown detector 'protodun-sp'; allowed: {detectors}",
        "line 7: partition.target_hits: input should be greater than or equal to 1; found 0",
        f"line 5: preprocess.profile: unknown preprocessing profile 'protodune-sp-2020'; allowed: {profiles}",
        "line 6: preprocess.planes[1]: input should be less than or equal to 2; found 7",
        "line 11: model: input should be a valid dictionary or instance of Model; found [1]",
        f"line 9: inference.policy: input should be {policies}; found 'sometimes'",
        f"line 10: inference.threads: {no_integer}; found 'many'",
    ]


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("partition:\n  target_hit: 3", "'target_hits'"),
        ("partition:\n  target_rows: 3", "'merge.target_rows'"),
        ("\ntarget_hits: 3", "'partition.target_hits'"),
        ("\nname: 3", "'campaign.name' or 'model.name'"),
        ("\ntreads: 3", "'inference.threads'"),
        ("\ncampain: {}", "'campaign'"),
    ],
)
def test_unknown_key_names_the_nearest_known_one(problems, key, meant):
    [problem] = problems(key + "\n" + INPUTS)
    name = key.split()[-2].rstrip(":")
    assert problem.startswith("line 2: ")
    assert f"{name}: unknown key; did you mean {meant}? Known here: " in problem


def test_unknown_key_without_a_near_one_names_all_that_are_known(problems):
    assert problems("merge: {zebra: 1}\n" + INPUTS) == [
        "line 1: merge.zebra: unknown key; Known here: target_rows, row_group_rows, bundle_partitions"
    ]


def test_unknown_key_in_a_list_is_placed_by_its_index(problems):
    text = "inputs:\n  - path: a\n  - path: b\n    detectr: x\n"
    [problem] = problems(text)
    assert problem.startswith("line 4: inputs[1].detectr: unknown key; did you mean 'detector'?")


def test_key_that_is_not_a_name_is_refused(problems):
    assert problems("5: x\n" + INPUTS) == ["line 1: 5: keys should be strings; found 5"]


def test_missing_key_is_placed_at_its_section(problems):
    assert problems("inputs:\n  - format: native\n") == [
        "line 2: inputs[0].path: this key is missing and has no default"
    ]


def test_missing_section_is_named(problems):
    assert problems("campaign: {name: x}") == ["inputs: this key is missing and has no default"]


def test_empty_list_of_inputs_is_refused(problems):
    [problem] = problems("inputs: []")
    assert problem.startswith("line 1: inputs: tuple should have at least 1 item")


def test_long_values_are_shortened_in_messages(problems):
    [problem] = problems(f"campaign: {{name: {'x' * 500}}}\n" + INPUTS)
    assert len(problem) < 200


def test_all_repeated_keys_are_reported_at_once(problems):
    text = "campaign: {name: a}\ninputs:\n  - path: a\n    path: b\ncampaign: {name: b}\n"
    assert problems(text) == [
        "line 4: inputs[0].path: this key is given twice",
        "line 5: campaign: this key is given twice",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "inputs: [",
        "\tinputs: 1",
        "a: 1\n---\nb: 2",
        "? [a, b]\n: c",
        "campaign: {name: 2024-13-45}",
        "inputs: &all [*all]",
        "campaign: !!python/object/apply:os.getcwd []",
    ],
)
def test_what_is_not_valid_yaml_is_refused(load, text):
    with pytest.raises(ConfigError, match=r"config\.yaml: not valid YAML: "):
        load(text)


@pytest.mark.parametrize("text", ["", "# nothing\n", "some text", "- a\n- b", "3"])
def test_what_is_not_a_mapping_is_refused(load, text):
    with pytest.raises(ConfigError, match=r"config\.yaml: the configuration is not a mapping of sections"):
        load(text)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot read the configuration: No such file"):
        load_settings(tmp_path / "none.yaml")


def test_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\x89HDF\xff\xfe")
    with pytest.raises(ConfigError, match="it is not UTF-8 text"):
        load_settings(path)


def test_number_without_a_point_is_a_number(load):
    """YAML 1.1 reads 1e-3 as text."""
    assert load("inputs: [{path: a, charge_scale: 1e-3}]").inputs[0].charge_scale == 1e-3


def test_json_is_read_as_well(load):
    settings = load('{"inputs": [{"path": "a.h5"}], "campaign": {"seed": 5}}')
    assert settings.campaign.seed == 5


def test_settings_survive_the_way_to_the_jobs(load):
    settings = load("campaign: {name: x.1}\n" + INPUTS)
    assert check_settings(settings.model_dump(mode="json")) == settings


def test_settings_from_elsewhere_are_checked_without_lines():
    with pytest.raises(ConfigError) as caught:
        check_settings({"inputs": [{"path": "a"}], "merge": {"target_rows": -1}})
    assert str(caught.value).splitlines() == [
        "1 problem in the configuration",
        "  merge.target_rows: input should be greater than or equal to 1; found -1",
    ]
