"""Records as JSON: what is written is read back, and nothing else is taken for a record."""

from __future__ import annotations

import json

import pytest

from protosonic.campaign.records import CatalogBlock, InputSpec, Plan, read_record, write_record
from protosonic.config import Input
from protosonic.errors import VerificationError
from protosonic.events.reader import ReaderOptions


def test_record_is_read_back_as_it_was_written(tmp_path, make_file):
    block = CatalogBlock(
        package_version="1",
        files=(make_file("a", 1, 2, warnings=("odd",)), make_file("b", reason="gone: it is")),
    )
    write_record(tmp_path / "new" / "block.json", block)
    assert read_record(tmp_path / "new" / "block.json", CatalogBlock) == block


def test_missing_record_is_refused(tmp_path):
    with pytest.raises(
        VerificationError, match=r"block\.json: the record is missing\. Run the campaign again"
    ):
        read_record(tmp_path / "block.json", CatalogBlock)


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ('{"version": 2, "package_version": "1", "files": []}', "version"),
        ('{"version": 1, "package_version": "1"}', "files"),
        ('{"version": 1, "package_version": "1", "files": [], "more": 1}', "more"),
        ('{"version": 1, "package_version": "1", "files": [{"spec": {}}]}', r"files\.0\.path"),
        ('{"version": 1, "files": [', r"block\.json: the record"),
        ("", r"block\.json: the record"),
        ("\x00\x00\x00", r"block\.json: the record"),
    ],
)
def test_damaged_record_is_refused_with_its_place(tmp_path, content, where):
    path = tmp_path / "block.json"
    path.write_text(content)
    with pytest.raises(VerificationError, match=where) as caught:
        read_record(path, CatalogBlock)
    assert "damaged or was written by another version of protosonic" in str(caught.value)


def test_record_of_another_kind_is_refused(tmp_path, make_file):
    write_record(tmp_path / "block.json", CatalogBlock(package_version="1", files=()))
    with pytest.raises(VerificationError):
        read_record(tmp_path / "block.json", Plan)


def test_record_carries_its_version(tmp_path):
    write_record(tmp_path / "block.json", CatalogBlock(package_version="1", files=()))
    assert json.loads((tmp_path / "block.json").read_text())["version"] == 1


def test_file_is_named_by_its_content(make_file):
    assert make_file("a", sha256="0123456789abcdef" * 4).file_id == "0123456789abcdef"
    assert make_file("a", sha256="").file_id == ""


def test_options_of_an_input_reach_the_reader():
    entry = Input(
        path="a",
        format="wirecell-hdf5",
        detector="protodune-hd",
        charge_scale=1e-3,
        run=7,
        tag="raw",
        ticks_per_bin=4,
        hit_threshold=0.5,
    )
    spec = InputSpec.from_input(entry)
    assert spec.format == "wirecell-hdf5"
    assert spec.reader_options() == ReaderOptions("protodune-hd", 1e-3, 7, "raw", 4, 0.5)


def test_options_that_are_left_out_have_the_same_defaults_everywhere():
    assert InputSpec.from_input(Input(path="a")) == InputSpec()
    assert InputSpec().reader_options() == ReaderOptions()
