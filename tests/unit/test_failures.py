"""From exceptions to messages, exit codes and records of failure."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path
from typing import Annotated

import pytest
import typer

from protosonic.errors import AcceptanceError, ConfigError, DataError, ServiceError
from protosonic.failures import Failure, guarded, read_failures

RAISED = {
    "config": ConfigError("wrong", file="c.yaml"),
    "data": DataError("broken", code="corrupt", file="a.h5"),
    "service": ServiceError("down"),
    "memory": MemoryError(),
    "disk": OSError(errno.ENOSPC, "No space left on device", "out"),
    "network": ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    "place": NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"),
    "rename": IsADirectoryError(errno.EISDIR, "Is a directory", ".b.1.part", None, "b"),
    "allocation": RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc"),
    "stale": OSError("Can't read data (file read failed: errno = 116, error message = 'Stale file handle')"),
    "internal": ZeroDivisionError("division by zero"),
    "unknown": OSError("something"),
    "interrupt": KeyboardInterrupt(),
}


@pytest.fixture
def app() -> typer.Typer:
    """A command line with one command that fails as it is told to."""
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.callback()
    def options(failures: Annotated[Path | None, typer.Option()] = None) -> None:
        pass

    @app.command()
    def work(what: str, code: int = 0) -> None:
        if what in RAISED:
            raise RAISED[what]
        raise typer.Exit(code)

    return app


@pytest.mark.parametrize(
    ("what", "code", "message"),
    [
        ("config", 2, "error: c.yaml: wrong\n"),
        ("data", 3, "error: a.h5: broken\n"),
        ("service", 11, "error: down\n"),
        ("allocation", 12, "error: out of memory. Give the job more memory, or lower partition.max_mem_mb\n"),
        ("stale", 10, "error: Stale file handle. Run the same command again\n"),
        ("memory", 12, "error: out of memory. Give the job more memory, or lower partition.max_mem_mb\n"),
        (
            "disk",
            12,
            "error: out: No space left on device. Free disk space or memory and run the same command again\n",
        ),
        ("network", 10, "error: Connection reset by peer. Run the same command again\n"),
        ("place", 2, "error: a/b: Not a directory. Choose another path\n"),
        ("rename", 2, "error: b: Is a directory. Choose another path\n"),
    ],
)
def test_expected_failure_gives_one_line_and_the_code_of_its_class(app, capsys, what, code, message):
    assert guarded(app, ["work", what]) == code
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(("what", "name"), [("internal", "ZeroDivisionError"), ("unknown", "OSError")])
def test_internal_error_shows_where_it_happened(app, capsys, what, name):
    assert guarded(app, ["work", what]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert any("in work" in line for line in lines)
    assert lines[-1] == f"error: internal error: {name}: {RAISED[what]}"


@pytest.mark.parametrize(
    "arguments", [["work"], ["wrok", "x"], ["work", "fine", "--zebra"], ["work", "x", "--code", "y"]]
)
def test_wrong_usage_gives_code_2(app, capsys, arguments):
    assert guarded(app, arguments) == 2
    assert "Usage: protosonic" in capsys.readouterr().err


def test_success_gives_code_0(app):
    assert guarded(app, ["work", "fine"]) == 0


def test_code_that_a_command_chooses_is_kept(app):
    assert guarded(app, ["work", "fine", "--code", "7"]) == 7


def test_interrupted_command_gives_code_130(app):
    assert guarded(app, ["work", "interrupt"]) == 130


def test_failure_is_recorded_where_a_folder_is_named(app, tmp_path, capsys):
    folder = tmp_path / "new" / "failures"
    assert guarded(app, ["--failures", str(folder), "work", "data"]) == 3
    [path] = folder.iterdir()
    assert json.loads(path.read_text()) == {
        "command": "work data",
        "exit_code": 3,
        "error": "DataError",
        "message": "a.h5: broken",
    }


def test_internal_error_is_recorded_as_well(app, tmp_path, capsys):
    guarded(app, ["--failures", str(tmp_path), "work", "internal"])
    assert read_failures(tmp_path, 0) == [
        Failure(
            "work internal", 1, "ZeroDivisionError", "internal error: ZeroDivisionError: division by zero"
        )
    ]


def test_failures_of_different_commands_are_kept_side_by_side(app, tmp_path, capsys):
    for what in ("config", "data", "service", "data"):
        guarded(app, ["--failures", str(tmp_path), "work", what])
    assert sorted(failure.exit_code for failure in read_failures(tmp_path, 0)) == [2, 3, 11]


def test_success_clears_the_record_of_its_own_command_only(app, tmp_path, capsys, monkeypatch):
    arguments = ["--failures", str(tmp_path), "work"]
    monkeypatch.setitem(RAISED, "once", AcceptanceError("not yet"))
    guarded(app, [*arguments, "once"])
    guarded(app, [*arguments, "data"])
    monkeypatch.delitem(RAISED, "once")
    guarded(app, [*arguments, "once"])
    assert [failure.command for failure in read_failures(tmp_path, 0)] == ["work data"]


def test_record_that_cannot_be_written_does_not_hide_the_failure(app, tmp_path, capsys, caplog):
    (tmp_path / "file").write_text("in the way")
    assert guarded(app, ["--failures", str(tmp_path / "file"), "work", "data"]) == 3
    assert "error: a.h5: broken" in capsys.readouterr().err
    assert "the failure could not be recorded" in caplog.text


def test_nothing_is_recorded_where_no_folder_is_named(app, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    guarded(app, ["work", "data"])
    assert list(tmp_path.iterdir()) == []


def test_only_failures_since_a_time_are_read(app, tmp_path, capsys):
    guarded(app, ["--failures", str(tmp_path), "work", "data"])
    [path] = tmp_path.iterdir()
    os.utime(path, (1000, 1000))
    guarded(app, ["--failures", str(tmp_path), "work", "config"])
    assert [failure.exit_code for failure in read_failures(tmp_path, time.time() - 500)] == [2]


def test_damaged_record_is_passed_over(app, tmp_path, capsys):
    guarded(app, ["--failures", str(tmp_path), "work", "data"])
    for number, text in enumerate(["", "{", "[]", '{"command": "x"}']):
        (tmp_path / f"{number}.json").write_text(text)
    assert [failure.command for failure in read_failures(tmp_path, 0)] == ["work data"]


def test_folder_that_does_not_exist_holds_no_failures(tmp_path):
    assert read_failures(tmp_path / "none", 0) == []
