"""Addresses: what is the same file, where its replicas are, and what must not be shown."""

from __future__ import annotations

import pytest

from protosonic.remote.urls import identity_of, places_of, without_secrets


@pytest.mark.parametrize(
    "text",
    [
        "https://me:hunter2@example.org/a.h5",
        "failed at https://hunter2@example.org/a.h5?x=1, then",
        "Redirected to https://b.example/a.h5?authz=Bearer%20hunter2&x=1",
        "Max retries: 'https://b.example/a.h5?X-Amz-Signature=hunter2'",
        "[ERROR] root://b.example:1094//a.h5?authz=hunter2 (3010)",
    ],
)
def test_logins_and_queries_are_taken_out_of_any_text(text):
    shown = without_secrets(text)
    assert "hunter2" not in shown
    assert "example" in shown
    assert "a.h5" in shown


def test_text_without_secrets_stays_as_it_is():
    text = "root://a.example:1094//store/a.h5: no such file? me@example.org"
    assert without_secrets(text) == text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("root://a//x/y.h5", "xroot://A//x//y.h5"),
        ("https://a/x.h5?v=1", "davs://a/x.h5?v=1"),
        ("root://a/x.h5", "root://a//x.h5"),
    ],
)
def test_spellings_of_one_file_have_one_identity(one, other):
    assert identity_of(one) == identity_of(other)


@pytest.mark.parametrize(
    "other",
    ["root://b//x.h5", "root://a//X.h5", "https://a/x.h5", "root://a:1095//x.h5", "root://a//x.h5?v=1"],
)
def test_other_files_have_another_identity(other):
    assert identity_of(other) != identity_of("root://a//x.h5")


def test_replicas_come_after_the_file_itself_in_the_order_of_the_configuration():
    replicas = {
        "root://a//": ["root://b//", "https://c/store/"],
        "root://a//x/": ["s3://bucket/", "root://b//x/"],
        "root://d//": ["root://e//"],
    }
    assert places_of("root://a//x/y.h5", replicas) == [
        "root://a//x/y.h5",
        "root://b//x/y.h5",
        "https://c/store/x/y.h5",
        "s3://bucket/y.h5",
    ]
