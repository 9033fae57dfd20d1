"""Whom `sealift retention erase` reads from standard input: a name that is read otherwise would erase nobody."""

import io
import sys

import pytest

from appliance.cli import retention
from media.errors import UsageError


def named(monkeypatch: pytest.MonkeyPatch, typed: bytes) -> str:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed), encoding="ascii"))
    return retention._named()


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        (b"\xef\xbb\xbfpat-7\r\n", "pat-7"),  # as an editor of Windows saves it
        ("Ángel Müller\n".encode(), "Ángel Müller"),
        (b"Ruiz, Ana  ", "Ruiz, Ana  "),  # the application's own blanks are in the hash
        (b"pat-7\n\n", "pat-7"),
    ],
)
def test_the_name_is_the_one_that_the_application_gives(
    monkeypatch: pytest.MonkeyPatch, typed: bytes, name: str
) -> None:
    assert named(monkeypatch, typed) == name


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        (b"M\xfcller\n", "not UTF-8"),
        ("Müller\n".encode("utf-16"), "not UTF-8"),
        (b"pat-7\npat-8\n", "a command of its own"),
        (b"", "empty"),
        (b" \n", "empty"),
    ],
)
def test_what_names_not_one_person_erases_nobody(monkeypatch: pytest.MonkeyPatch, typed: bytes, why: str) -> None:
    with pytest.raises(UsageError) as refused:
        named(monkeypatch, typed)

    assert why in refused.value.why
