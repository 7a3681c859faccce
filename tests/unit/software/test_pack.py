"""What cannot be packed is refused with one message, and nothing is left behind."""

from __future__ import annotations

import sys

import pytest

from protosonic.errors import ConfigError
from protosonic.software import python_checks
from protosonic.software.pack import pack_environment
from protosonic.software.shared_libraries import bundle_libraries, newest_glibc
from support.campaign import protosonic


def test_extra_that_there_is_not_is_refused(tmp_path):
    output = protosonic(
        "environment", "pack", str(tmp_path / "a.tar.gz"), "--extras", "reprot", expect=ConfigError.exit_code
    )
    assert "--extras: there is no such extra (expected " in output
    assert "found reprot)" in output
    assert list(tmp_path.iterdir()) == []


def test_packages_that_are_not_installed_are_named(tmp_path, monkeypatch):
    found = python_checks.metadata.distribution

    def without_h5py(name: str) -> object:
        if name == "h5py":
            raise python_checks.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(python_checks.metadata, "distribution", without_h5py)
    with pytest.raises(ConfigError, match=r"not installed here \(found h5py>=") as caught:
        pack_environment(tmp_path / "a.tar.gz", ())
    assert caught.value.hint == "pip install 'protosonic'"


def test_missing_patchelf_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    with pytest.raises(ConfigError, match="patchelf is missing"):
        bundle_libraries(tmp_path, tmp_path / "python3")


def test_archive_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    output = protosonic(
        "environment", "pack", str(tmp_path / "file" / "a.tar.gz"), expect=ConfigError.exit_code
    )
    assert f"{tmp_path / 'file' / 'a.tar.gz'}: its folder cannot be made" in output


def test_newest_glibc_is_that_of_the_programs_in_the_folder(tmp_path):
    (tmp_path / "note.txt").write_text("\0GLIBC_9.9\0")
    assert newest_glibc(tmp_path) == "2.0"
    # What an older linker would have written into a program.
    (tmp_path / "old").write_bytes(b"\x7fELF.....\0GLIBC_2.2.5\0GLIBC_2.17\0puts\0")
    (tmp_path / "new").write_bytes(b"\x7fELF.....\0GLIBC_2.9\0GLIBC_2.34\0GLIBC_PRIVATE\0")
    assert newest_glibc(tmp_path) == "2.34"
