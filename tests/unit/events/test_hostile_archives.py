"""Archives that are cut, damaged or made to harm: refused as a whole, in little memory, and never read in part."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protosonic.errors import DataError
from protosonic.events.model import Event

from .builders import (
    WIRECELL,
    TouchWhenUnpickled,
    assert_same_event,
    frame_members,
    npy,
    npy_header,
    pulse_members,
    read_bad,
    read_file,
    read_good,
    read_one,
    refusal,
    write_tar,
)

TWO_EVENTS = pulse_members(ident=1) | pulse_members(ident=2)
COMPRESSIONS = ["", "gz", "bz2", "xz"]


@contextmanager
def little_memory(limit: int = 64 * 2**20) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def member_ends(path: Path) -> list[int]:
    """Where the data of each member ends, in whole blocks."""
    with tarfile.open(path) as archive:
        return [info.offset_data + -(-info.size // 512) * 512 for info in archive]


def tar_with(path: Path, info: tarfile.TarInfo, content: bytes = b"") -> Path:
    """A good event after one odd member."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
        for name, data in pulse_members().items():
            good = tarfile.TarInfo(name)
            good.size = len(data)
            archive.addfile(good, io.BytesIO(data))
    return path


def bomb(path: Path, name: str, start: bytes, size: int, kind: bytes = tarfile.REGTYPE) -> Path:
    """A compressed archive with a member of zeros that is as long as it likes; bzip2 streams may follow each other."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    megabytes = 16
    zeros = bz2.compress(bytes(megabytes * 2**20))
    head = bz2.compress(info.tobuf(tarfile.GNU_FORMAT) + start)
    path.write_bytes(head + zeros * -(-size // (megabytes * 2**20)))
    return path


# ---- cut


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("step", range(12))
def test_a_cut_archive_is_refused(tmp_path: Path, compression: str, step: int) -> None:
    whole = write_tar(tmp_path / "whole", TWO_EVENTS, compression)
    assert len(read_good(whole, **WIRECELL)) == 2
    size = whole.stat().st_size if compression else member_ends(whole)[-1]
    cut = tmp_path / "cut"
    cut.write_bytes(whole.read_bytes()[: 1 + (size - 2) * step // 11])
    assert refusal(cut, **WIRECELL).code in {"truncated", "corrupt", "unsupported-format"}


@pytest.mark.parametrize("member", range(6))
@pytest.mark.parametrize("beyond", [0, 1, 100, 511])
def test_an_archive_cut_between_members_is_refused(tmp_path: Path, member: int, beyond: int) -> None:
    whole = write_tar(tmp_path / "whole", TWO_EVENTS)
    cut = tmp_path / "cut"
    cut.write_bytes(whole.read_bytes()[: member_ends(whole)[member] + beyond])
    assert refusal(cut, **WIRECELL).code == "truncated"


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_archive_whose_content_is_cut_is_refused(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    """The compressed file itself is sound."""
    whole = write_tar(tmp_path / "whole", TWO_EVENTS)
    cut = tmp_path / "cut"
    cut.write_bytes(compress(whole.read_bytes()[: member_ends(whole)[2]]))
    assert refusal(cut, **WIRECELL).code == "truncated"


def test_only_the_padding_after_the_end_may_be_missing(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "whole", TWO_EVENTS)
    cut = tmp_path / "cut"
    cut.write_bytes(whole.read_bytes()[: member_ends(whole)[-1] + 512])
    for one, other in zip(read_good(cut, **WIRECELL), read_good(whole, **WIRECELL), strict=True):
        assert_same_event(one, other)


# ---- damaged


@pytest.mark.parametrize("member", range(6))
@pytest.mark.parametrize("place", [0, 30, 130, 150, 156, 300])
def test_a_flipped_byte_in_a_header_is_refused(tmp_path: Path, member: int, place: int) -> None:
    """tarfile takes a damaged header for the end of the archive."""
    path = write_tar(tmp_path / "a.tar", TWO_EVENTS)
    header = [0, *member_ends(path)][member]
    content = bytearray(path.read_bytes())
    content[header + place] ^= 0x04
    path.write_bytes(content)
    assert refusal(path, **WIRECELL).code == ("unsupported-format" if member == 0 else "corrupt")


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
@settings(max_examples=60)
@given(data=st.data())
def test_a_flipped_bit_in_a_compressed_archive_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, compression: str, data: st.DataObject
) -> None:
    path = write_tar(tmp_path_factory.mktemp("flip") / "a", TWO_EVENTS, compression)
    expected = read_good(path, **WIRECELL)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1), label="place")] ^= 1 << data.draw(
        st.integers(0, 7), label="bit"
    )
    path.write_bytes(content)
    try:
        read = read_good(path, **WIRECELL)
    except DataError:
        return
    for one, other in zip(read, expected, strict=True):
        assert_same_event(one, other)


@settings(max_examples=100)
@given(place=st.integers(0, 4600), byte=st.integers(0, 255))
def test_any_byte_of_a_plain_archive_gives_events_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    """Data in a plain archive have no checksum, so charge may change; anything else must be noticed."""
    path = write_tar(tmp_path_factory.mktemp("flip") / "a.tar", pulse_members())
    content = bytearray(path.read_bytes())
    content[place] = byte
    path.write_bytes(content)
    try:
        events = read_file(path, **WIRECELL)
    except DataError:
        return
    assert len(events) == 1


def test_a_member_that_comes_twice_is_refused(tmp_path: Path) -> None:
    members = list(pulse_members().items())
    error = refusal(write_tar(tmp_path / "a.tar", [*members, members[0]]), **WIRECELL)
    assert error.code == "corrupt"
    assert "frame_gauss_1.npy" in str(error)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 99), }",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 101), }",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (-2, -100), }",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (200,), }",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 10, 10), }",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (), }",
        "{'descr': '<f4', 'fortran_order': 7, 'shape': (2, 100), }",
        "{'descr': '<f4', 'shape': (2, 100), }",
        "{'descr': '<q9', 'fortran_order': True, 'shape': (2, 100), }",
        "{'descr': [], 'fortran_order': True, 'shape': (2, 100), }",
        "{[]: 1}",
        "{1: 2, 'descr': 3}",
        "{'descr': (",
        "[1, 2]",
        "-" * 110 + "1",
        "print('hello')",
        "\x00",
        "",
    ],
)
def test_a_damaged_numpy_header_is_refused(tmp_path: Path, header: str) -> None:
    members = pulse_members() | {"frame_gauss_1.npy": npy_header(header) + bytes(800)}
    assert refusal(write_tar(tmp_path / "a.tar", members), **WIRECELL).code in {"corrupt", "hostile"}


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x93NUMPY\x02\x00" + bytes(200), b"x" * 300])
@pytest.mark.parametrize("member", ["frame_gauss_1.npy", "channels_gauss_1.npy", "chanmask_bad_1.npy"])
def test_a_member_that_is_no_numpy_file_is_refused(tmp_path: Path, member: str, content: bytes) -> None:
    path = write_tar(tmp_path / "a.tar", pulse_members() | {member: content})
    error = refusal(path, **WIRECELL)
    assert (error.code, member in str(error)) == ("corrupt", True)


# ---- hostile


@pytest.mark.parametrize("name", ["../x", "/abs", "a/../../x", "/frame_gauss_1.npy", "../frame_gauss_1.npy"])
def test_a_name_that_leads_out_of_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    path = tar_with(tmp_path / "a.tar", tarfile.TarInfo(name), b"evil")
    assert refusal(path, **WIRECELL).code == "hostile"
    assert [file.name for file in tmp_path.rglob("*")] == ["a.tar"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE]
)
def test_a_member_that_is_no_plain_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("frame_gauss_9.npy")
    info.type, info.linkname = kind, "frame_gauss_1.npy"
    assert refusal(tar_with(tmp_path / "a.tar", info), **WIRECELL).code == "hostile"


@pytest.mark.parametrize("member", ["frame_gauss_1.npy", "channels_gauss_1.npy", "chanmask_bad_1.npy"])
def test_a_pickled_array_is_refused_and_not_loaded(tmp_path: Path, member: str) -> None:
    marker = tmp_path / "loaded"
    content = npy(np.array([[TouchWhenUnpickled(marker)]]), allow_pickle=True)
    path = write_tar(tmp_path / "a.tar", pulse_members() | {member: content})
    assert refusal(path, **WIRECELL).code == "hostile"
    assert not marker.exists()
    np.load(io.BytesIO(content), allow_pickle=True)
    assert marker.exists()


@pytest.mark.parametrize("dtype", ["<c8", "S4", "<M8[s]", "|b1"])
def test_what_is_no_number_is_refused(tmp_path: Path, dtype: str) -> None:
    members = pulse_members() | {"frame_gauss_1.npy": npy(np.zeros((2, 100), dtype))}
    assert refusal(write_tar(tmp_path / "a.tar", members), **WIRECELL).code == "hostile"


@pytest.mark.parametrize("shape", [f"(2, {10**40})", f"({10**40}, 2)", f"({2**62}, 8)"])
def test_a_header_that_claims_a_huge_shape_is_refused(tmp_path: Path, shape: str) -> None:
    header = npy_header(f"{{'descr': '<f4', 'fortran_order': True, 'shape': {shape}, }}")
    path = write_tar(tmp_path / "a.tar", pulse_members() | {"frame_gauss_1.npy": header + bytes(800)})
    with little_memory():
        assert refusal(path, **WIRECELL).code in {"corrupt", "hostile"}


@pytest.mark.parametrize("size", [2**40, 2**62])
def test_a_member_of_absurd_size_is_refused(tmp_path: Path, size: int) -> None:
    info = tarfile.TarInfo("frame_gauss_1.npy")
    info.size = size
    path = tmp_path / "a.tar.bz2"
    path.write_bytes(bz2.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(2**20)))
    assert refusal(path, **WIRECELL).code == "hostile"


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_member_of_negative_size_is_refused(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("frame_gauss_1.npy")
    info.type, info.size = kind, -512
    rest = write_tar(tmp_path / "rest.tar", TWO_EVENTS).read_bytes()
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + rest)
    assert refusal(path, **WIRECELL).code == "corrupt"


@pytest.mark.parametrize(
    "name", ["channels_gauss_1.npy", "chanmask_bad_1.npy", "tickinfo_gauss_1.npy", "README"]
)
def test_a_huge_member_of_zeros_is_refused_in_little_memory(tmp_path: Path, name: str) -> None:
    size = 512 * 2**20
    header = npy_header(f"{{'descr': '<i4', 'fortran_order': False, 'shape': ({size // 4 - 32},), }}")
    path = bomb(tmp_path / "a.tar.bz2", name, header, size)
    assert path.stat().st_size < 2**16
    with little_memory():
        assert refusal(path, **WIRECELL).code == "hostile"


def test_a_huge_frame_of_zeros_is_refused_in_little_memory(tmp_path: Path) -> None:
    shape = (2, 65 * 2**20)
    header = npy_header(f"{{'descr': '<f4', 'fortran_order': True, 'shape': {shape}, }}")
    path = bomb(tmp_path / "a.tar.bz2", "frame_gauss_1.npy", header, len(header) + 8 * shape[1])
    with little_memory():
        assert refusal(path, **WIRECELL).code == "hostile"


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_huge_extended_header_is_refused_in_little_memory(tmp_path: Path, kind: bytes) -> None:
    """tarfile reads such a header as a whole."""
    path = bomb(tmp_path / "a.tar.bz2", "header", b"", 512 * 2**20, kind)
    with little_memory():
        assert refusal(path, **WIRECELL).code == "corrupt"


@pytest.mark.parametrize(
    "record",
    [
        b"11 size=-1\n",
        b"99 size=-1\n",
        b"99 path=../x\n",
        b"11 size=99\n",
        b"9" * 30 + b" a=b\n",
        b"0 a=b\n",
        b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n",
        b"20 GNU.sparse.map=x\n",
        b"20 GNU.sparse.size=x\n",
    ],
)
def test_an_extended_header_of_nonsense_is_refused(tmp_path: Path, record: bytes) -> None:
    good = write_tar(tmp_path / "good.tar", pulse_members())
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, len(record)
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + good.read_bytes())
    assert refusal(path, **WIRECELL).code in {"corrupt", "hostile"}


def test_a_frame_dense_beyond_reason_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tar(tmp_path / "a.tar", frame_members([1, 2], np.ones((2, 100), np.float32)))
    monkeypatch.setattr("protosonic.events.waveform_builder.MAX_SAMPLES", 200)
    assert isinstance(read_one(path, **WIRECELL), Event)
    assert read_bad(path, ticks_per_bin=2, **WIRECELL).code == "hostile"
    monkeypatch.setattr("protosonic.events.waveform_builder.MAX_SAMPLES", 199)
    assert read_bad(path, **WIRECELL).code == "hostile"


def test_an_archive_that_needs_more_memory_than_any_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tar(tmp_path / "a.tar", TWO_EVENTS)
    monkeypatch.setattr("protosonic.events.wirecell_archive.MAX_KEPT_BYTES", 500)
    assert refusal(path, **WIRECELL).code == "hostile"
    monkeypatch.setattr("protosonic.events.wirecell_archive.MAX_KEPT_BYTES", 5000)
    assert len(read_good(path, **WIRECELL)) == 2


def test_more_channels_than_the_detector_has_are_refused(tmp_path: Path) -> None:
    members = frame_members(np.arange(15361), np.zeros((15361, 1), np.float32))
    assert refusal(write_tar(tmp_path / "a.tar", members), **WIRECELL).code == "hostile"


def test_extended_headers_of_ordinary_size_are_read(tmp_path: Path) -> None:
    """Python writes them for times that are not whole seconds."""
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in pulse_members().items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1.5
            archive.addfile(info, io.BytesIO(content))
    assert b"mtime=1.5" in path.read_bytes()
    assert len(read_one(path, **WIRECELL).hits) == 1
