"""The profiles that come with the workflow, and what the check of a profile says about wrong ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from protosonic.campaign.launch import workflow_folder
from protosonic.campaign.profiles import (
    check_profile,
    find_profile,
    profile_content,
    profile_file,
    require_sound_profile,
    rules_of,
    shipped_profiles,
)
from protosonic.errors import ConfigError
from support.campaign import clean_environment

ROOT = workflow_folder()


@pytest.fixture
def profile(tmp_path):
    """Write a profile with this content and give its file."""

    def write(content: object, name: str = "profile.v9+.yaml") -> Path:
        (tmp_path / "mine").mkdir(exist_ok=True)
        path = tmp_path / "mine" / name
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return path

    return write


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "protosonic" / "profiles"


def problems_of(file: Path) -> list[str]:
    return [str(problem) for problem in check_profile(file, ROOT)]


@pytest.mark.parametrize("name", shipped_profiles(ROOT))
def test_shipped_profile_is_sound_but_for_a_plugin_that_is_not_installed(name):
    file = profile_file(find_profile(name, ROOT))
    assert [problem for problem in problems_of(file) if "is not installed" not in problem] == []


@pytest.mark.parametrize("name", shipped_profiles(ROOT))
def test_every_line_of_a_shipped_profile_is_explained_and_no_rule_gets_retries_of_its_own(name):
    file = profile_file(find_profile(name, ROOT))
    before = ""
    for line in file.read_text().splitlines():
        if line[:1].isalpha():
            assert before.startswith("#"), line
        before = line or before
    assert file.name == "profile.v9+.yaml"
    assert {"keep-going", "rerun-incomplete", "scheduler", "retries"} <= set(profile_content(file))


def test_rules_are_those_that_snakemake_finds(tmp_path):
    process = subprocess.run(
        [
            str(Path(sys.executable).with_name("snakemake")),
            *("--snakefile", str(ROOT / "workflow" / "Snakefile"), "--directory", str(tmp_path)),
            *("--configfile", str(Path(__file__).parents[1] / "workflow" / "lint.yaml"), "--list-rules"),
        ],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(),
    )
    assert rules_of(ROOT) == set(process.stdout.split())


def test_sound_profile_has_no_problems(profile):
    content = {
        "jobs": 10,
        "default-resources": {"mem_mb": "attempt * 2000", "site_licence": 1},
        "set-resources": {"infer": {"runtime": 30}},
        "set-threads": {"infer": 2},
        "groups": {"preprocess": "unit", "infer": "unit"},
        "group-components": {"unit": 5},
        "resources": {"gpu_clients": 3},
    }
    assert problems_of(profile(content)) == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            {"default_resources": {"mem_mb": 1}},
            "no option --default_resources; did you mean default-resources?",
        ),
        (
            {"set-resource": {"infer": {"mem_mb": 1}}},
            "set-resource: snakemake has no option --set-resource; did",
        ),
        ({"keep-goign": True}, "did you mean keep-going?"),
        ({"slurm-logdir": "logs"}, "slurm-logdir: snakemake has no option"),
        ({"latency-wait": {"seconds": 3}}, "latency-wait: snakemake reads no mapping here"),
        (
            {"set-resources": {"infr": {"mem_mb": 1}}},
            "set-resources.infr: the workflow has no rule 'infr'; did you mean i",
        ),
        ({"set-resources": {"infer": 7}}, "set-resources.infer: expected a mapping of resources"),
        ({"set-threads": {"preproces": 2}}, "no rule 'preproces'; did you mean preprocess?"),
        ({"groups": {"score": "unit"}}, "groups.score: the workflow has no rule 'score'"),
        (
            {"groups": {"infer": "unit"}, "group-components": {"unti": 2}},
            "group-components.unti: no rule is put into",
        ),
        (
            {"default-resources": {"mem-mb": 1}},
            "default-resources.mem-mb: this cannot be the name of a resource; did",
        ),
        (
            {"default-resources": {"mem_mb": {"max": 1}}},
            "default-resources.mem_mb: expected a value, found a mapping",
        ),
        ({"latency-wait": "soon"}, "latency-wait: invalid int value: 'soon'"),
        ({"set-threads": {"infer": -2}}, "Invalid threads definition"),
        ({"scheduler": "grady"}, "scheduler: invalid choice: 'grady'"),
        (
            {"executor": "slrum"},
            "executor: the plugin of the executor 'slrum' is not installed; did you mean slurm?",
        ),
    ],
)
def test_mistake_is_named_with_its_key_and_what_was_meant(profile, content, problem):
    found = check_profile(profile(content), ROOT)
    assert len(found) == 1
    assert found[0].is_error
    assert problem in str(found[0])


@pytest.mark.parametrize(
    ("resources", "meant"),
    [({"mem_gb": 4}, "mem_mb"), ({"gpu_client": 2}, "gpu_clients"), ({"run_time": 5}, "runtime")],
)
def test_resource_that_looks_misspelt_is_pointed_at_but_is_no_error(profile, resources, meant, caplog):
    file = profile({"default-resources": resources})
    (problem,) = check_profile(file, ROOT)
    assert not problem.is_error
    assert f"did you mean {meant}?" in problem.message
    assert require_sound_profile(str(file.parent), ROOT) == file.parent
    assert f"did you mean {meant}?" in caplog.text


def test_all_problems_are_told_at_once(profile):
    file = profile({"default_resources": {"mem_mb": 1}, "set-threads": {"infr": 1}, "retries": 1})
    with pytest.raises(
        ConfigError, match=r"2 problems in the profile\n.*default_resources.*\n.*set-threads\.infr"
    ):
        require_sound_profile(str(file.parent), ROOT)


def test_executor_that_an_extra_installs_is_named_with_it(profile):
    problem = problems_of(profile({"executor": "cluster-generic", "cluster-generic-submit-cmd": "qsub"}))
    if "cluster-generic" in problem[0]:
        assert problem == [problem[0]]
        assert problem[0].endswith("pip install 'protosonic[kubernetes]'")


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words\n", "a: [1\n"])
def test_file_that_is_no_mapping_is_refused(profile, text):
    with pytest.raises(ConfigError, match=r"profile\.v9\+\.yaml: (the profile is no mapping|not valid YAML)"):
        check_profile(profile(text), ROOT)


def test_folder_without_a_profile_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "profile.yml").write_text("jobs: 1")
    with pytest.raises(ConfigError, match=r"this folder is no profile .*found profile\.yml"):
        profile_file(tmp_path / "empty")


def test_newest_file_of_a_profile_counts_unless_it_is_for_a_later_snakemake(profile):
    profile({}, "config.yaml")
    expected = profile({}, "profile.v8+.yaml")
    profile({}, "profile.v99+.yaml")
    assert profile_file(expected.parent) == expected


def test_unknown_profile_is_refused_with_the_one_that_was_meant():
    with pytest.raises(ConfigError, match=r"there is no profile 'defualt'.*Did you mean 'default'"):
        find_profile("defualt", ROOT)


def test_sound_profile_is_remembered_until_it_changes(profile, cache):
    file = profile({"retries": 1})
    require_sound_profile(str(file.parent), ROOT)
    assert len(list(cache.iterdir())) == 1
    profile({"retires": 1})
    with pytest.raises(ConfigError, match="did you mean retries"):
        require_sound_profile(str(file.parent), ROOT)


def test_profile_with_variables_of_the_environment_is_checked_every_time(profile, cache, monkeypatch):
    file = profile({"latency-wait": "$PATIENCE"})
    monkeypatch.setenv("PATIENCE", "5")
    require_sound_profile(str(file.parent), ROOT)
    assert not cache.exists()
    monkeypatch.setenv("PATIENCE", "forever")
    with pytest.raises(ConfigError, match="invalid int value: 'forever'"):
        require_sound_profile(str(file.parent), ROOT)
