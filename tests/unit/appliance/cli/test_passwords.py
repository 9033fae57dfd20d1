"""A password that is no text is the typist's to mend, not a fault of ours."""

import io
import sys
from pathlib import Path

import pytest

from appliance.cli import passwords
from media.errors import UsageError

LATIN = b"na\xefve\n"


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])  # of a locale in UTF-8, and of C
def test_bytes_that_are_no_text_are_refused_on_standard_input(errors: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LATIN), encoding="utf-8", errors=errors))

    with pytest.raises(UsageError, match="on standard input") as refused:
        passwords.read(Path("-"), prompt="Password")

    assert refused.value.why == "it is not UTF-8 text"


def test_bytes_that_are_no_text_are_refused_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(LATIN)

    with pytest.raises(UsageError, match="file cannot be read"):
        passwords.read(tmp_path / "password", prompt="Password")


def test_a_password_is_the_first_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("naïve\r\nmore\n", encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO("naïve\nmore\n"))

    assert passwords.read(tmp_path / "password", prompt="") == passwords.read(Path("-"), prompt="") == "naïve"
