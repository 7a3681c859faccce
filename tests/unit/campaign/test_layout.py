"""Where a campaign keeps its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from protosonic.campaign.layout import Layout
from protosonic.errors import ConfigError


def finish(workdir: Path, *names: str) -> None:
    for name in names:
        (workdir / "results" / name).mkdir(parents=True)
        (workdir / "results" / name / "campaign.json").write_text("{}")


def test_results_and_work_are_kept_apart_below_the_working_directory():
    layout = Layout("demo", Path("w"))
    results = [layout.hits, layout.accounting, layout.campaign, layout.report]
    work = [
        layout.catalog,
        layout.plan,
        layout.model,
        layout.failures,
        layout.settings("d"),
        layout.descriptor("p"),
        layout.scores("p"),
        layout.status("p"),
    ]
    assert all(path.is_relative_to("w/results/demo") for path in results)
    assert all(path.is_relative_to("w/work/demo") for path in work)
    assert len({*results, *work}) == 12


def test_working_directory_is_the_present_one_by_default():
    assert Layout("demo").plan == Path("work/demo/plan.json")


def test_only_campaign_of_a_folder_is_found(tmp_path):
    finish(tmp_path, "one")
    assert Layout.of_workdir(tmp_path) == Layout("one", tmp_path)


def test_campaign_is_chosen_by_name(tmp_path):
    finish(tmp_path, "one", "two")
    assert Layout.of_workdir(tmp_path, "two") == Layout("two", tmp_path)


def test_several_campaigns_without_a_name_are_refused(tmp_path):
    finish(tmp_path, "two", "one")
    with pytest.raises(
        ConfigError, match=r"several campaigns \(found one, two\)\. Choose one with --campaign"
    ):
        Layout.of_workdir(tmp_path)


@pytest.mark.parametrize("name", ["three", "../one", ""])
def test_campaign_that_is_not_there_is_refused(tmp_path, name):
    finish(tmp_path, "one", "two")
    with pytest.raises(ConfigError, match=rf"no finished campaign '{name}' here \(found one, two\)"):
        Layout.of_workdir(tmp_path, name)


def test_folder_without_a_finished_campaign_is_refused(tmp_path):
    (tmp_path / "results" / "begun").mkdir(parents=True)
    with pytest.raises(
        ConfigError, match=r"no finished campaign is here \(expected results/<campaign>/campaign\.json\)"
    ):
        Layout.of_workdir(tmp_path)
