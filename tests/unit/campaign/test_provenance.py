"""The facts that make a campaign repeatable."""

from __future__ import annotations

import json
import re

import pytest

from protosonic.campaign.layout import Layout
from protosonic.campaign.provenance import campaign_provenance, package_commit, read_campaign
from protosonic.campaign.records import BackendUse, ModelRecord, PartitionStatus
from protosonic.errors import VerificationError

MODEL = ModelRecord(path="bundled", sha256="m" * 64, untrained=True)


def status_of(*backends: BackendUse) -> PartitionStatus:
    """What provenance looks at."""
    return PartitionStatus.model_construct(profile={"name": "protodune-sp-2021"}, backends=backends)


def test_provenance_names_inputs_model_settings_and_what_served(make_file, make_settings):
    files = [
        make_file("b", 1),
        make_file("a", 1, 2, warnings=("odd",)),
        make_file("c", reason="corrupt: it is"),
    ]
    statuses = [
        status_of(BackendUse(backend="triton", endpoint="grpc://x:1", model_versions=("4", "3"), hits=5)),
        status_of(BackendUse(backend="onnxruntime", hits=5)),
        status_of(BackendUse(backend="triton", endpoint="grpc://x:1", model_versions=("4",), hits=5)),
        status_of(BackendUse(backend="triton", endpoint="grpc://idle:1", model_versions=("5",))),
    ]
    settings = make_settings(campaign={"name": "x"}, model={"name": "net", "version": "9"})
    provenance = campaign_provenance(settings, MODEL, files, statuses)
    assert [entry["file"] for entry in provenance["inputs"]] == ["a", "b", "c"]
    assert provenance["inputs"][0]["sha256"] == files[1].sha256
    assert [entry["events"] for entry in provenance["inputs"]] == [2, 1, 0]
    assert provenance["inputs"][0]["warnings"] == ["odd"]
    assert provenance["inputs"][2]["reason"] == "corrupt: it is"
    assert provenance["model"] == {
        "path": "bundled",
        "sha256": "m" * 64,
        "untrained": True,
        "fast": None,
        "name": "net",
        "version": "9",
    }
    assert provenance["served_model_versions"] == ["3", "4"]
    assert provenance["endpoints"] == ["grpc://x:1"]
    assert provenance["settings"] == settings.model_dump(mode="json")
    assert provenance["preprocessing"] == {"name": "protodune-sp-2021"}


def test_equal_campaigns_have_equal_provenance(make_file, make_settings):
    files, settings = [make_file("a", 1), make_file("b", 1)], make_settings()
    first = campaign_provenance(settings, MODEL, files, [status_of()])
    second = campaign_provenance(settings, MODEL, files[::-1], [status_of()])
    assert json.dumps(first) == json.dumps(second)


def test_campaign_without_partitions_has_provenance(make_settings):
    provenance = campaign_provenance(make_settings(), MODEL, [], [])
    assert (provenance["inputs"], provenance["preprocessing"], provenance["endpoints"]) == ([], None, [])


def test_commit_is_that_of_the_checkout():
    commit = package_commit()
    assert commit is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", commit)


@pytest.mark.parametrize("content", [None, "", "{", "\x00"])
def test_campaign_file_that_cannot_be_read_is_refused(tmp_path, content):
    layout = Layout("demo", tmp_path)
    if content is not None:
        layout.results.mkdir(parents=True)
        layout.campaign.write_text(content)
    with pytest.raises(VerificationError, match=r"campaign\.json: cannot be read .*Run the campaign again"):
        read_campaign(layout)
