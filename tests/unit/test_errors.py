"""Errors say what is wrong and what to do; their exit codes tell the classes apart."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from protosonic import errors
from protosonic.errors import (
    ConfigError,
    DataError,
    ProtosonicError,
    ResourceError,
    ServiceError,
    TransientError,
    classify_os_error,
    exit_codes,
)

CLASSES = [
    item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, ProtosonicError)
]


def test_exit_codes_are_a_contract():
    assert {cls.__name__: cls.exit_code for cls in CLASSES} == {
        "ProtosonicError": 1,
        "ConfigError": 2,
        "DataError": 3,
        "ModelError": 4,
        "AcceptanceError": 5,
        "VerificationError": 6,
        "WorkflowError": 7,
        "IncompleteError": 8,
        "PilotError": 9,
        "TransientError": 10,
        "ServiceError": 11,
        "ResourceError": 12,
    }


def test_every_exit_code_is_documented_with_one_sentence():
    codes = exit_codes()
    assert set(codes) == {0, 130, *(cls.exit_code for cls in CLASSES)}
    assert list(codes) == sorted(codes)
    assert len(set(codes.values())) == len(codes)
    assert all(meaning[0].isupper() and meaning.endswith(".") for meaning in codes.values())
    assert (
        codes[5]
        == "The campaign is complete, but more events are quarantined than the configuration accepts."
    )


def test_retry_helps_exactly_with_infrastructure_problems():
    assert {cls for cls in CLASSES if cls.retry_helps} == {TransientError, ServiceError, ResourceError}


def test_error_names_everything_that_is_known():
    error = ConfigError(
        "it is wrong",
        file=Path("dir/a.h5"),
        where="/hits",
        expected=0,
        found="many",
        hint="Do it right",
    )
    assert str(error) == "dir/a.h5: /hits: it is wrong (expected 0, found many). Do it right"
    assert error.args == (str(error),)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({}, "it is wrong"),
        ({"file": "a"}, "a: it is wrong"),
        ({"where": "b"}, "b: it is wrong"),
        ({"expected": "x"}, "it is wrong (expected x)"),
        ({"found": False}, "it is wrong (found False)"),
        ({"hint": "Stop"}, "it is wrong. Stop"),
    ],
)
def test_error_leaves_out_what_is_not_known(parts, text):
    assert str(ProtosonicError("it is wrong", **parts)) == text


def test_reason_of_a_data_error_begins_with_its_code_and_leaves_out_the_file():
    error = DataError("it is short", code="truncated", file="a.h5", where="/hits", found=3)
    assert error.reason == "truncated: /hits: it is short (found 3)"
    assert str(error) == "a.h5: /hits: it is short (found 3)"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE])
def test_exhausted_disk_and_memory_are_resource_problems(number):
    known = classify_os_error(OSError(number, os.strerror(number), "dir/a"))
    assert type(known) is ResourceError
    assert str(known).startswith(f"dir/a: {os.strerror(number)}. Free disk space or memory")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOENT, errno.ECONNRESET])
def test_failures_of_file_systems_and_networks_are_transient(number):
    known = classify_os_error(OSError(number, os.strerror(number), "dir/a"))
    assert type(known) is TransientError
    assert str(known).startswith(f"dir/a: {os.strerror(number)}. ")


@pytest.mark.parametrize("error", [OSError("file signature not found"), OSError(errno.EACCES, "Denied", "a")])
def test_other_operating_system_errors_are_left_to_the_caller(error):
    assert classify_os_error(error) is None


@pytest.mark.parametrize("name", ["no/such", b"no/such", Path("no/such")])
def test_file_of_an_operating_system_error_is_named_however_it_was_given(name):
    with pytest.raises(FileNotFoundError) as caught:
        os.stat(name)  # noqa: PTH116
    assert str(classify_os_error(caught.value)).startswith("no/such: No such file or directory")


def test_operating_system_error_without_a_file_keeps_its_text():
    assert str(classify_os_error(OSError(errno.EIO, None, None))).startswith("[Errno 5]")
