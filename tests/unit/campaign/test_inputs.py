"""From the configuration to files and blocks of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protosonic.campaign.inputs import (
    InputFile,
    block_of,
    blocks_of_inputs,
    find_inputs,
    read_block,
    write_blocks,
)
from protosonic.campaign.records import InputSpec
from protosonic.config import check_settings
from protosonic.errors import ConfigError


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working directory, with some files in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.h5", "b.h5", "c.txt", ".hidden", "deep/d.h5", "deep/deeper/e.h5", "odd[1].h5"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text(name)
    return tmp_path


def found(*entries: str | dict) -> list[str]:
    inputs = [{"path": entry} if isinstance(entry, str) else entry for entry in entries]
    return [file.path for file in find_inputs(check_settings({"inputs": inputs}))]


@pytest.mark.parametrize(
    ("path", "files"),
    [
        ("data/a.h5", ["data/a.h5"]),
        ("data/*.h5", ["data/a.h5", "data/b.h5", "data/odd[1].h5"]),
        ("data/?.h5", ["data/a.h5", "data/b.h5"]),
        ("data/[ab].h5", ["data/a.h5", "data/b.h5"]),
        ("data/*", ["data/a.h5", "data/b.h5", "data/c.txt", "data/odd[1].h5"]),
        ("data/**/[de].h5", ["data/deep/d.h5", "data/deep/deeper/e.h5"]),
        ("data", ["data/a.h5", "data/b.h5", "data/c.txt", "data/odd[1].h5"]),
        ("data/deep/", ["data/deep/d.h5"]),
        ("data/odd[1].h5", ["data/odd[1].h5"]),
        ("./data/deep/../a.h5", ["./data/deep/../a.h5"]),
    ],
)
def test_path_glob_and_folder_are_expanded(folder, path, files):
    assert found(path) == files


def test_absolute_paths_stay_absolute(folder):
    assert found(f"{folder}/data/?.h5") == [f"{folder}/data/a.h5", f"{folder}/data/b.h5"]


def test_files_of_all_entries_are_sorted_by_path(folder):
    assert found("data/b.h5", "data/deep", "data/a.h5") == ["data/a.h5", "data/b.h5", "data/deep/d.h5"]


def test_list_names_files_one_a_line(folder):
    Path("list.txt").write_text("# comment\n\n  data/b.h5  \ndata/a.h5\n   # more\ndata/b.h5\n")
    assert found("@list.txt") == ["data/a.h5", "data/b.h5"]


def test_files_of_a_list_need_not_exist(folder):
    Path("list.txt").write_text("data/a.h5\ndata/gone.h5\n")
    assert found("@list.txt") == ["data/a.h5", "data/gone.h5"]


@pytest.mark.parametrize("content", ["", "\n \n", "# only a comment\n"])
def test_empty_list_is_refused(folder, content):
    Path("list.txt").write_text(content)
    with pytest.raises(
        ConfigError, match=r"inputs\[0\]\.path: the list of files is empty \(found list\.txt\)"
    ):
        found("@list.txt")


def test_missing_list_is_refused(folder):
    with pytest.raises(ConfigError, match=r"cannot read the list of files: No such file.*found list\.txt"):
        found("@list.txt")


def test_list_that_is_not_text_is_refused(folder):
    Path("list.txt").write_bytes(b"\x89HDF\xff")
    with pytest.raises(ConfigError, match="cannot read the list of files: it is not UTF-8 text"):
        found("@list.txt")


@pytest.mark.parametrize("path", ["data/gone.h5", "data/*.root", "gone", "deep/**/x", "data/.hidden*?"])
def test_path_that_gives_no_file_is_refused(folder, path):
    with pytest.raises(ConfigError) as caught:
        found("data/a.h5", path)
    text = str(caught.value)
    assert text.startswith("inputs[1].path: there is no such file, or nothing matches")
    assert f"found {path}" in text
    assert str(folder) in text


def test_empty_folder_is_refused(folder):
    Path("empty").mkdir()
    with pytest.raises(ConfigError, match=r"nothing matches \(found empty\)"):
        found("empty")


@pytest.mark.parametrize(
    "url", ["root://eos.example//a.h5", "https://example.org/a.h5?version=2", "s3://bucket/a.h5"]
)
def test_url_is_taken_as_it_is_without_asking_a_server(folder, url):
    Path("list.txt").write_text(f"data/a.h5\n{url}\n")
    assert found(url) == [url]
    assert found("@list.txt") == sorted(["data/a.h5", url])


def test_url_is_one_file_however_it_is_spelled(folder):
    assert found("root://eos.example//a.h5", "root://EOS.example/a.h5", "xroot://eos.example//a.h5") == [
        "root://eos.example//a.h5"
    ]


@pytest.mark.parametrize("url", ["https://me:hunter2@example.org/a.h5", "root://h//a.h5?authz=hunter2"])
def test_secret_in_a_list_is_refused_without_showing_it(folder, url):
    Path("list.txt").write_text(f"data/a.h5\n{url}\n")
    with pytest.raises(ConfigError, match=r"inputs\[0\]\.path, list\.txt: a URL must not hold a") as caught:
        found("@list.txt")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://example.org/*.h5", "https://example.org/data/"])
def test_pattern_is_refused_where_the_protocol_cannot_list(folder, url):
    with pytest.raises(ConfigError, match=r"HTTP servers cannot list files .*@list\.txt"):
        found(url)


def test_jobs_read_their_block_from_what_was_written(folder):
    Path("list.txt").write_text("".join(f"root://h//{number}.h5\n" for number in range(50)))
    files = find_inputs(check_settings({"inputs": [{"path": "@list.txt", "run": 5}]}))
    blocks = blocks_of_inputs(files)
    write_blocks(Path("blocks"), blocks)
    assert {path.stem: read_block(path) for path in Path("blocks").iterdir()} == blocks


def test_blocks_that_changed_are_written_and_those_that_are_gone_removed(folder):
    first, second = ([InputFile(path, InputSpec())] for path in "ab")
    write_blocks(Path("blocks"), {"00": first, "01": first, "02": first})
    for path in Path("blocks").iterdir():
        os.utime(path, (1000, 1000))
    write_blocks(Path("blocks"), {"00": first, "01": second})
    assert {path.name: path.stat().st_mtime == 1000 for path in Path("blocks").iterdir()} == {
        "00.json": True,
        "01.json": False,
    }


@pytest.mark.parametrize("again", ["data/a.h5", "./data/a.h5", "data//a.h5", "data/*.h5", "data"])
def test_file_that_two_entries_give_with_equal_options_is_taken_once(folder, again):
    assert len([path for path in found("data/a.h5", again) if Path(path).name == "a.h5"]) == 1


def test_relative_and_absolute_name_are_one_file(folder):
    assert found("data/a.h5", f"{folder}/data/a.h5") == ["data/a.h5"]


@pytest.mark.parametrize("again", ["data/a.h5", "./data/a.h5", "data/*.h5"])
def test_file_that_two_entries_give_with_different_options_is_refused(folder, again):
    with pytest.raises(
        ConfigError, match=r"inputs\[1\] and inputs\[2\]: the file .*data/a\.h5 is given twice"
    ):
        found("data/c.txt", {"path": "data/a.h5", "run": 1}, {"path": again, "run": 2})


def test_name_that_is_not_text_is_refused(folder):
    Path(os.fsdecode(b"data/\xff.h5")).touch()
    with pytest.raises(
        ConfigError, match=r"inputs\[0\]\.path: the name of a file is not UTF-8 .*Rename"
    ) as caught:
        found("data/*")
    assert r"data/\udcff.h5" in str(caught.value)


def test_files_keep_the_options_of_their_entry(folder):
    settings = check_settings(
        {
            "inputs": [
                {"path": "data/a.h5", "run": 5, "tag": "raw"},
                {"path": "data/b.h5", "charge_scale": 1e-3},
            ]
        }
    )
    assert find_inputs(settings) == [
        InputFile("data/a.h5", InputSpec(run=5, tag="raw")),
        InputFile("data/b.h5", InputSpec(charge_scale=1e-3)),
    ]


@given(paths=st.sets(st.text(min_size=1), max_size=60), added=st.text(min_size=1))
def test_adding_a_file_changes_no_block_but_its_own(paths, added):
    files = [InputFile(path, InputSpec()) for path in sorted(paths - {added})]
    before = blocks_of_inputs(files)
    after = blocks_of_inputs([*files, InputFile(added, InputSpec())])
    assert sorted(path for block in after.values() for path, _ in block) == sorted(paths | {added})
    assert {name for name in after if after[name] != before.get(name)} == {block_of(added)}
    assert before.keys() <= after.keys()


@given(st.text())
def test_block_is_two_hexadecimal_digits(path):
    assert int(block_of(path), 16) < 256
    assert len(block_of(path)) == 2


def test_blocks_spread_files_evenly():
    blocks = blocks_of_inputs([InputFile(f"run{number}.h5", InputSpec()) for number in range(5000)])
    assert len(blocks) == 256
    assert max(map(len, blocks.values())) < 50
