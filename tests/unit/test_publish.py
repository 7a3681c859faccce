"""What is published appears complete or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from protosonic.publish import (
    fsync_path,
    publish,
    publish_folder,
    publish_json,
    publish_text,
    sha256_of,
    sha256_of_json,
)

WRITER = """
import os, signal, sys
from pathlib import Path
from protosonic.publish import publish, publish_folder

target = Path(sys.argv[2])
with (publish if sys.argv[1] == "file" else publish_folder)(target) as part:
    (part if sys.argv[1] == "file" else part / "inside").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_a_writer(kind: str, target: Path) -> None:
    process = subprocess.run([sys.executable, "-c", WRITER, kind, str(target)], check=False)
    assert process.returncode == -9


def fail_half_way(target: Path, error: BaseException) -> None:
    with publish(target) as part:
        part.write_text("half")
        raise error


def fail_half_way_in_a_folder(target: Path) -> None:
    with publish_folder(target) as part:
        (part / "half").write_text("half")
        raise ValueError("stop")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "new" / "folder" / "file.txt"
    with publish(target) as part:
        part.write_text("all")
        assert names(target.parent) == [part.name]
    assert names(target.parent) == ["file.txt"]
    assert target.read_text() == "all"


def test_file_is_replaced_only_when_the_block_ends(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("old")
    with publish(target) as part:
        part.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_a_file_when_the_block_fails(tmp_path, error):
    (tmp_path / "file.txt").write_text("old")
    with pytest.raises(error):
        fail_half_way(tmp_path / "file.txt", error())
    assert names(tmp_path) == ["file.txt"]
    assert (tmp_path / "file.txt").read_text() == "old"


def test_block_that_writes_nothing_publishes_nothing(tmp_path):
    with pytest.raises(FileNotFoundError), publish(tmp_path / "file.txt"):
        pass
    assert names(tmp_path) == []


def test_file_does_not_replace_a_folder(tmp_path):
    (tmp_path / "target").mkdir()
    with pytest.raises(IsADirectoryError):
        publish_text(tmp_path / "target", "text")
    assert names(tmp_path) == ["target"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_killed_writer_leaves_no_target(tmp_path, kind):
    target = tmp_path / "target"
    kill_a_writer(kind, target)
    assert not target.exists()
    [leftover] = names(tmp_path)
    assert leftover.startswith(".target.")
    assert leftover.endswith(".part")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_next_writer_removes_what_a_killed_one_left(tmp_path, kind):
    target = tmp_path / "target"
    kill_a_writer(kind, target)
    with (publish if kind == "file" else publish_folder)(target) as part:
        assert names(tmp_path) in ([], [part.name])
        (part if kind == "file" else part / "inside").write_text("whole")
    assert names(tmp_path) == ["target"]


@pytest.mark.parametrize(
    ("target", "other"), [("a", ".a.b.7.part"), ("a*", ".ab.7.part"), ("a", ".a.x7.part"), ("a", "a.7.part")]
)
def test_part_files_of_other_targets_are_left_alone(tmp_path, target, other):
    (tmp_path / other).write_text("of someone else")
    publish_text(tmp_path / target, "text")
    assert names(tmp_path) == sorted([target, other])


def test_leftovers_of_a_name_with_special_characters_are_removed(tmp_path):
    (tmp_path / ".a[1].h5.7.part").write_text("half")
    publish_text(tmp_path / "a[1].h5", "text")
    assert names(tmp_path) == ["a[1].h5"]


def test_folder_appears_when_the_block_ends(tmp_path):
    with publish_folder(tmp_path / "new" / "folder") as part:
        (part / "deep").mkdir()
        (part / "deep" / "file").write_text("text")
        assert names(tmp_path / "new") == [part.name]
    assert names(tmp_path / "new") == ["folder"]
    assert (tmp_path / "new" / "folder" / "deep" / "file").read_text() == "text"


def test_older_folder_is_replaced_as_a_whole(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").write_text("old")
    with publish_folder(tmp_path / "folder") as part:
        (part / "new").write_text("new")
        assert names(tmp_path / "folder") == ["old"]
    assert names(tmp_path / "folder") == ["new"]


@pytest.mark.parametrize("points_at", ["elsewhere", "nowhere"])
def test_folder_replaces_a_link_and_not_what_it_points_at(tmp_path, points_at):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_text("kept")
    (tmp_path / "folder").symlink_to(tmp_path / points_at)
    with publish_folder(tmp_path / "folder") as part:
        (part / "new").write_text("new")
    assert names(tmp_path / "folder") == ["new"]
    assert names(tmp_path / "elsewhere") == ["kept"]


def test_nothing_is_left_of_a_folder_when_the_block_fails(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").write_text("old")
    with pytest.raises(ValueError, match="stop"):
        fail_half_way_in_a_folder(tmp_path / "folder")
    assert names(tmp_path) == ["folder"]
    assert names(tmp_path / "folder") == ["old"]


def test_json_is_written_with_sorted_keys(tmp_path):
    publish_json(tmp_path / "a.json", {"b": 1, "a": ["ü", None]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"a": ["ü", None], "b": 1}
    assert text.index('"a"') < text.index('"b"')
    assert text.endswith("}\n")


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    publish_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        publish_json(tmp_path / "a.json", {"path": tmp_path})
    assert names(tmp_path) == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "1\n"


@pytest.fixture
def synced(monkeypatch) -> list[str]:
    """Names of what is synced to the disk, in order; syncing itself goes on as always."""
    names: list[str] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        names.append(Path(f"/proc/self/fd/{descriptor}").resolve().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    return names


def test_file_is_on_the_disk_before_it_gets_its_name_and_the_name_after(tmp_path, synced):
    with publish(tmp_path / "file") as part:
        part.write_text("text")
    assert synced == [part.name, tmp_path.name]


def test_folder_is_on_the_disk_with_all_its_files_before_it_gets_its_name(tmp_path, synced):
    with publish_folder(tmp_path / "folder") as part:
        (part / "deep").mkdir()
        (part / "deep" / "file").write_text("text")
    assert sorted(synced[:2]) == ["deep", "file"]
    assert synced[2:] == [part.name, tmp_path.name]


def test_syncing_files_and_folders_leaves_nothing_open(tmp_path):
    (tmp_path / "file").write_text("text")
    open_before = names(Path("/proc/self/fd"))
    fsync_path(tmp_path / "file")
    fsync_path(tmp_path)
    assert names(Path("/proc/self/fd")) == open_before


def test_syncing_what_is_not_there_fails(tmp_path):
    with pytest.raises(FileNotFoundError):
        fsync_path(tmp_path / "none")


def test_checksum_of_a_file_is_that_of_its_bytes(tmp_path):
    content = bytes(range(256)) * 1000
    (tmp_path / "file").write_bytes(content)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_checksum_of_json_does_not_depend_on_the_order_of_keys():
    assert sha256_of_json({"a": 1, "b": {"c": 2, "d": 3}}) == sha256_of_json({"b": {"d": 3, "c": 2}, "a": 1})
    assert sha256_of_json([1, 2]) != sha256_of_json([2, 1])
    assert sha256_of_json({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()
