"""What catalogs are told of a file."""

from __future__ import annotations

import hashlib
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protosonic.errors import ConfigError
from protosonic.publication.contents import FileContents, file_contents
from protosonic.publication.files import PublishedFile, checksums, copy_file
from protosonic.publication.metacat import campaign_fields, describe_file, did_name
from protosonic.publication.scripts import declare_script
from protosonic.stages.publish import read_fields

CAMPAIGN = {
    "provenance": {
        "campaign": "demo",
        "package": {"version": "1.2.3"},
        "model": {"name": "cnn", "sha256": "a" * 64},
        "settings": {"preprocess": {"profile": "protodune-hd"}},
        "inputs": [{"detector": "protodune-hd"}, {"detector": None}],
    }
}


@given(content=st.binary(max_size=5000))
def test_a_copy_is_the_file_and_has_its_checksums(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy")
    source = folder / "source"
    source.write_bytes(content)
    file = copy_file(source, folder / "out", "sub/file")
    assert (folder / "out" / "sub" / "file").read_bytes() == content
    assert file == PublishedFile(
        "sub/file", len(content), f"{zlib.adler32(content):08x}", hashlib.sha256(content).hexdigest()
    )
    assert checksums(folder / "out", "sub/file") == file


def test_adler32_has_eight_digits_also_where_it_begins_with_zeros(tmp_path):
    (tmp_path / "empty").touch()
    assert checksums(tmp_path, "empty").adler32 == "00000001"


def test_contents_are_the_events_and_the_files_that_rows_come_from(tmp_path):
    table = pa.table(
        {
            "run": pa.array([2, 1, 1, None], pa.int64()),
            "subrun": pa.array([0, 3, 3, None], pa.int64()),
            "event": pa.array([7, 5, 5, None], pa.int64()),
            "file_id": ["b", "a", "a", ""],
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    contents = file_contents(tmp_path / "x.parquet")
    assert contents.events == ((1, 3, 5), (2, 0, 7))
    assert contents.subruns == [(1, 3), (2, 0)]
    assert contents.file_ids == ("a", "b")


def test_an_empty_file_has_no_events(tmp_path):
    schema = pa.schema(
        [(name, pa.int64()) for name in ("run", "subrun", "event")] + [("file_id", pa.string())]
    )
    pq.write_table(schema.empty_table(), tmp_path / "x.parquet")
    assert file_contents(tmp_path / "x.parquet") == FileContents((), ())


def test_a_file_is_described_as_dune_asks():
    file = PublishedFile("hits/part-00000.parquet", 12, "0000abcd", "e" * 64)
    contents = FileContents(((5141, 1, 9), (5141, 2, 3)), ("id2", "id1", "unknown"))
    description = describe_file(
        file,
        contents,
        name="n",
        namespace="usertests",
        fields=campaign_fields(CAMPAIGN, {"core.file_type": "mc", "core.data_tier": "sliced"}),
        parents={"id1": "data/one.h5", "id2": "root://host//store/two.h5"},
        parent_namespace="hd-protodune",
    )
    assert description["checksums"] == {"adler32": "0000abcd", "sha256": "e" * 64}
    assert description["parents"] == [{"did": "hd-protodune:two.h5"}, {"did": "hd-protodune:one.h5"}]
    metadata = description["metadata"]
    assert metadata["core.runs"] == [5141]
    assert metadata["core.runs_subruns"] == [514100001, 514100002]
    assert (metadata["core.first_event_number"], metadata["core.last_event_number"]) == (3, 9)
    assert metadata["core.event_count"] == 2
    assert metadata["core.run_type"] == "hd-protodune"
    assert metadata["core.data_tier"] == "sliced", "what the operator says wins"
    assert "core.data_stream" not in metadata, "nobody knows it"


def test_names_differ_between_datasets_of_one_campaign():
    one, two = (did_name("demo", digest * 32, "hits/part-00000.parquet") for digest in ("ab", "cd"))
    assert one == "demo-abababab-part-00000.parquet"
    assert one != two


def test_the_script_refuses_to_declare_what_is_not_fully_described():
    arguments = {"namespace": "n", "dataset": "d", "files": [("a b", "hits/a")]}
    assert "exit 2" in declare_script(**arguments, missing=["core.file_type"])
    script = declare_script(**arguments, missing=[])
    assert "exit 2" not in script
    assert "'a b'" in script


@pytest.mark.parametrize(
    ("text", "message"),
    [("- a", "expected a mapping"), ("x: 1", "found x"), ("a.b: [", "cannot be read")],
)
def test_metadata_that_is_none_is_refused(tmp_path, text, message):
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_fields(tmp_path / "m.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_fields(tmp_path / "gone.yaml")
    assert read_fields(None) == {}
