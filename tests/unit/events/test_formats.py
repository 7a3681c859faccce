"""Formats are told apart by content; what cannot be read is named, with the way out."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from protosonic.errors import DataError
from protosonic.events.formats import FORMATS, identify, open_events
from protosonic.events.reader import ReaderOptions

from .builders import (
    MICROBOONE,
    WIRECELL,
    add_pulse,
    hit_table,
    npy,
    plain_event,
    pulse_members,
    read_file,
    refusal,
    wire_table,
    write_native,
    write_numl,
    write_tar,
)


def write_frames(path: Path, **file_options: Any) -> Path:
    with h5py.File(path, "w", **file_options) as file:
        add_pulse(file)
    return path


GOOD: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "native": (lambda path: write_native(path, plain_event()), {}),
    "wirecell-archive": (lambda path: write_tar(path, pulse_members(), "bz2"), WIRECELL),
    "wirecell-hdf5": (write_frames, WIRECELL),
    "numl": (lambda path: write_numl(path, hit_table(), wire_table()), MICROBOONE),
}


def code_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        identify(path)
    assert caught.value.file == str(path)
    return caught.value.code


def message_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        identify(path)
    assert caught.value.code == "unsupported-format"
    assert caught.value.hint
    return str(caught.value)


def test_every_format_has_a_test_here() -> None:
    assert set(GOOD) == set(FORMATS)


@pytest.mark.parametrize("file_format", GOOD)
@pytest.mark.parametrize("name", ["events.h5", "events.tar.bz2", "events", "events.root"])
def test_the_name_of_a_file_does_not_matter(tmp_path: Path, file_format: str, name: str) -> None:
    write, options = GOOD[file_format]
    path = write(tmp_path / name)
    assert identify(path) == file_format
    assert len(read_file(path, **options)) >= 1


@pytest.mark.parametrize("file_format", GOOD)
@pytest.mark.parametrize("stated", GOOD)
def test_the_stated_format_must_be_the_right_one(tmp_path: Path, file_format: str, stated: str) -> None:
    write, options = GOOD[file_format]
    path = write(tmp_path / "file")
    if stated == file_format:
        with open_events(path, ReaderOptions(**options), stated) as file:
            assert file.format == file_format
    else:
        error = refusal(path, stated, **options)
        assert (error.code, error.expected, error.found) == ("wrong-format", stated, file_format)


@pytest.mark.parametrize("size", [512, 1024, 2048, 2**20])
def test_a_user_block_before_the_hdf5_data_is_passed_over(tmp_path: Path, size: int) -> None:
    path = write_frames(tmp_path / "a.h5", userblock_size=size)
    with path.open("r+b") as file:
        file.write(b"root of a user block")
    assert identify(path) == "wirecell-hdf5"
    assert len(read_file(path, **WIRECELL)) == 1


@pytest.mark.parametrize("tree", [b"RootFileDB", b"EventMetaData"])
@pytest.mark.parametrize("padding", [0, 2**20, 5 * 2**20])
def test_art_root_is_refused_with_the_routes(tmp_path: Path, tree: bytes, padding: int) -> None:
    path = tmp_path / "reco.root"
    path.write_bytes(b"root\x00\x00\xf7\x00" + bytes(padding) + b"keys " + tree + b" end")
    message = message_of(path)
    assert "an art/ROOT file" in message
    assert "HDF5FrameTap" in message
    assert "numl HDF5Maker" in message


def test_plain_root_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tree.root"
    path.write_bytes(b"root\x00\x00\xf7\x00" + bytes(2000))
    assert "this is a ROOT file" in message_of(path)


def make_hdf5(path: Path, *groups: str, **attributes: Any) -> Path:
    with h5py.File(path, "w") as file:
        for group in groups:
            file.create_group(group)
        file.attrs.update(attributes)
    return path


@pytest.mark.parametrize(
    ("groups", "attributes", "what"),
    [
        (["TriggerRecord00001.0000"], {}, "a DUNE-DAQ raw data file"),
        (["TimeSlice00000000000000000001.0000"], {}, "a DUNE-DAQ raw data file"),
        (["anything"], {"filelayout_params": "{}"}, "a DUNE-DAQ raw data file"),
        (["Data", "Events"], {}, "a larcv3 file"),
        (["tracks2d"], {"PYTABLES_FORMAT_VERSION": "2.1"}, "a PyTables file without a hit table"),
        (["hit_table"], {"PYTABLES_FORMAT_VERSION": "2.1"}, "a PyTables file without a hit table"),
        (["1", "2"], {}, "an HDF5 file with numbered groups but without frames"),
        (["a", "b"], {}, "it holds a, b"),
        ([], {}, "it holds nothing"),
        ([], {"format": "other"}, "it holds nothing"),
        ([], {"format": [1, 2]}, "it holds nothing"),
    ],
)
def test_other_hdf5_files_are_named(
    tmp_path: Path, groups: list[str], attributes: dict[str, Any], what: str
) -> None:
    assert what in message_of(make_hdf5(tmp_path / "a.h5", *groups, **attributes))


def test_raw_data_need_signal_processing_first(tmp_path: Path) -> None:
    assert "signal processing (Wire-Cell)" in message_of(
        make_hdf5(tmp_path / "a.h5", "TriggerRecord00001.0000")
    )


def test_a_dataset_called_hit_table_is_no_numl_file(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["hit_table"] = [1, 2]
    assert "it holds hit_table" in message_of(path)


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("frame_gauss_1.npy", npy(np.zeros(3)))


OTHERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "zip": (write_zip, "a zip archive"),
    "npy": (lambda path: path.write_bytes(npy(np.zeros(3))), "a single NumPy array"),
    "parquet": (lambda path: pq.write_table(pa.table({"x": [1]}), path), "a Parquet file"),
    "pdf": (lambda path: path.write_bytes(b"%PDF-1.7 ..."), "a PDF document"),
    "sqlite": (lambda path: path.write_bytes(b"SQLite format 3\x00"), "an SQLite database"),
    "text": (lambda path: path.write_text("hello\n" * 1000), "a file of an unknown format"),
    "short text": (lambda path: path.write_text("x"), "a file of an unknown format"),
    "zeros": (lambda path: path.write_bytes(bytes(5000)), "a file of an unknown format"),
    "gzip of text": (
        lambda path: path.write_bytes(gzip.compress(b"hello\n" * 1000)),
        "a compressed file that is not a tar archive",
    ),
    "xz of text": (
        lambda path: path.write_bytes(lzma.compress(b"hello\n" * 1000)),
        "a compressed file that is not a tar archive",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_files_are_named(tmp_path: Path, kind: str) -> None:
    write, what = OTHERS[kind]
    path = tmp_path / "file"
    write(path)
    message = message_of(path)
    assert what in message
    assert "HDF5FrameTap" in message


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.touch()
    assert code_of(path) == "empty-file"


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_what_cannot_be_opened_is_refused(tmp_path: Path, kind: str) -> None:
    assert code_of(tmp_path if kind == "folder" else tmp_path / "missing") == "unreadable"


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_damaged_compressed_file_is_refused(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    content = bytearray(compress(np.random.default_rng(1).bytes(5000)))
    path = tmp_path / "a"
    for place in (10, 30, len(content) // 2):
        damaged = content.copy()
        damaged[place : place + 4] = b"\xff\xff\xff\xff"
        path.write_bytes(damaged)
        assert code_of(path) in {"corrupt", "unsupported-format"}
    path.write_bytes(content[: len(content) // 10])
    assert code_of(path) in {"corrupt", "truncated", "unsupported-format"}


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_file_of_almost_nothing_is_truncated(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "a"
    path.write_bytes(compress(b"frame"))
    assert code_of(path) == "truncated"


def test_hdf5_with_a_damaged_start_is_refused(tmp_path: Path) -> None:
    path = write_frames(tmp_path / "a.h5")
    content = bytearray(path.read_bytes())
    content[8:40] = b"\xff" * 32
    path.write_bytes(content)
    assert code_of(path) in {"corrupt", "truncated"}


@pytest.mark.parametrize("exists", [True, False])
def test_a_hit_table_in_another_file_is_hostile(tmp_path: Path, exists: bool) -> None:
    if exists:
        write_numl(tmp_path / "elsewhere.h5", hit_table())
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["hit_table"] = h5py.ExternalLink("elsewhere.h5", "/hit_table")
    assert code_of(path) == "hostile"
