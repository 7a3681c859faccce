"""Bearer tokens from files and environment variables: read anew, checked, and never shown."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protosonic.errors import ConfigError
from protosonic.inference.credentials import BearerToken

VALUE = "eyJhbGciOi.SECRET-part_1.sig+/~=="
VARIABLE = "PROTOSONIC_TEST_TOKEN"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{VALUE}\n")
    return path


def replace(file: Path, text: str) -> None:
    """As a token renewer does: a new file takes the place of the old one."""
    new = file.with_name("new")
    new.write_text(text)
    new.replace(file)


def sent(token: BearerToken) -> str:
    [(key, value)] = token.header().items()
    assert key == "authorization"
    scheme, _, secret = value.partition(" ")
    assert scheme == "Bearer"
    return secret


@pytest.mark.parametrize("text", [VALUE, f"{VALUE}\n", f"  \t{VALUE}\r\n\n"])
def test_the_token_of_a_file_is_sent_without_the_white_space_around_it(file: Path, text: str) -> None:
    file.write_text(text)
    assert sent(BearerToken(file)) == VALUE


def test_the_token_of_a_variable_is_read_at_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    token = BearerToken(env=VARIABLE)
    monkeypatch.setenv(VARIABLE, f" {VALUE}\n")
    assert sent(token) == VALUE
    monkeypatch.setenv(VARIABLE, "newer")
    assert token.changed_since_used()
    assert sent(token) == "newer"
    assert not token.changed_since_used()


def test_without_file_and_variable_there_is_no_header() -> None:
    token = BearerToken()
    assert token.header() == {}
    assert not token.changed_since_used()


def test_a_token_from_two_places_is_refused(file: Path) -> None:
    with pytest.raises(ConfigError, match="token_file, token_env"):
        BearerToken(file, VARIABLE)


def test_a_file_that_is_replaced_is_read_anew(file: Path) -> None:
    token = BearerToken(file)
    assert sent(token) == VALUE
    assert not token.changed_since_used()
    replace(file, VALUE[::-1])
    assert token.changed_since_used()
    assert sent(token) == VALUE[::-1]
    assert not token.changed_since_used()


def test_a_file_that_is_rewritten_in_place_with_a_token_of_the_same_length_is_read_anew(file: Path) -> None:
    token = BearerToken(file)
    assert sent(token) == VALUE
    file.write_text(f"{VALUE[::-1]}\n")
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert sent(token) == VALUE[::-1]


def test_a_file_that_has_not_changed_is_not_read_again(file: Path) -> None:
    token = BearerToken(file)
    token.header()
    before = file.stat()
    with file.open("r+") as stream:
        stream.write("X" * len(VALUE))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert sent(token) == VALUE


def test_a_token_that_is_written_again_unchanged_is_no_newer_token(file: Path) -> None:
    token = BearerToken(file)
    token.header()
    replace(file, VALUE)
    assert not token.changed_since_used()


def test_before_the_first_request_there_is_nothing_newer(file: Path) -> None:
    assert not BearerToken(file).changed_since_used()


def test_a_request_that_was_sent_with_an_older_token_can_tell(file: Path) -> None:
    token = BearerToken(file)
    old = token.header()
    replace(file, "newer")
    new = token.header()
    assert token.changed_since_used(old)
    assert not token.changed_since_used(new)


@pytest.mark.parametrize("text", ["", "\n", "two lines\nof text", None])
def test_a_file_that_is_being_replaced_leaves_the_token_in_use(file: Path, text: str | None) -> None:
    token = BearerToken(file)
    assert sent(token) == VALUE
    file.unlink() if text is None else file.write_text(text)
    assert sent(token) == VALUE
    assert not token.changed_since_used()
    replace(file, "newer")
    assert token.changed_since_used()
    assert sent(token) == "newer"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found nothing"),
        (b" \n\t", "nothing but white space"),
        (f"Bearer {VALUE}".encode(), "without the word Bearer"),
        (f"{VALUE}\n{VALUE}".encode(), "white space between"),
        (f"{VALUE}\r\nx-injected: 1".encode(), "white space between"),
        (f"{VALUE}\0".encode(), "control characters"),
        (f"{VALUE}\x1b[2J".encode(), "control characters"),
        (f"{VALUE}é".encode(), "outside of ASCII"),
        (VALUE.encode() + b"\xff\xfe", "outside of ASCII"),
        (VALUE.encode() * 1000, "more than 16384 bytes"),
    ],
)
@pytest.mark.parametrize("source", ["file", "env"])
def test_what_is_no_token_is_refused_with_its_place_and_without_its_value(
    file: Path, content: bytes, message: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if source == "file":
        file.write_bytes(content)
        token, place = BearerToken(file), str(file)
    else:
        # An environment variable cannot hold a null byte.
        monkeypatch.setenv(VARIABLE, os.fsdecode(content.replace(b"\0", b"\x01")))
        token, place = BearerToken(env=VARIABLE), VARIABLE
    with pytest.raises(ConfigError) as caught:
        token.header()
    assert place in str(caught.value)
    assert message in str(caught.value)
    assert_hidden(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"token: the bearer token cannot be read \(found No such file"):
        BearerToken(tmp_path / "token").header()


def test_a_folder_is_no_token_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        BearerToken(tmp_path).header()


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(ConfigError, match=f"variable {VARIABLE}: the bearer token is missing"):
        BearerToken(env=VARIABLE).header()


def assert_hidden(error: BaseException | None) -> None:
    """The whole chain of errors, as a traceback prints it and in all attributes, is free of the secret."""
    assert error is not None
    assert "SECRET" not in "".join(traceback.format_exception(error))
    while error is not None:
        assert "SECRET" not in f"{error!r} {error.args!r} {vars(error)!r} {getattr(error, 'object', '')!r}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("source", ["file", "env"])
def test_the_token_is_in_no_text_of_the_object(
    file: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, VALUE)
    token = BearerToken(file) if source == "file" else BearerToken(env=VARIABLE)
    token.header()
    assert "SECRET" not in f"{token!r} {token} {token!s} {[token]}"
    assert (file.name if source == "file" else VARIABLE) in repr(token)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60).map(lambda tail: b"SECRET" + tail))
def test_any_content_is_either_sent_as_one_clean_word_or_refused_without_showing_it(
    file: Path, content: bytes
) -> None:
    replace(file, "")
    file.write_bytes(content)
    try:
        value = sent(BearerToken(file))
    except ConfigError as error:
        assert_hidden(error)
    else:
        assert value.encode() == content.strip()
        assert value.isascii()
        assert value.isprintable()
        assert " " not in value
