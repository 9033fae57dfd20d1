"""How commands end: by their own code and word, whoever listens."""

import errno
import io
import sys

import pytest

from media import endings
from media.errors import UnreadableError
from tests.support.unheard import Full, Gone


def test_a_stream_that_was_closed_is_the_null_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)

    endings.open_closed()

    opened = (sys.stdin, sys.stdout, sys.stderr)
    try:
        assert sys.stdin.read() == ""
        assert (sys.stdout.write("result"), sys.stderr.write("talk")) == (6, 4)
        assert not any(stream.isatty() and stream.name != "/dev/null" for stream in opened)
    finally:
        for stream in opened:
            stream.close()


def test_a_result_that_nobody_waits_for_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Gone())

    endings.put("result\n")


def test_a_result_that_finds_no_room_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Full())

    with pytest.raises(UnreadableError, match="the result could not be written") as told:
        endings.put("result\n")

    assert "No space left" in told.value.why
    assert "stays done" in told.value.fix


@pytest.mark.parametrize("stream", [Gone, Full])
def test_talk_is_for_whoever_still_listens(stream: type[io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream())

    endings.tell("error: no\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Zoë Müller\n\tw\u200dx 10\u202fmg", "Zoë Müller\n\tw\u200dx 10\u202fmg"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("line\rover", r"line\rover"),
        ("a\u202eb\udcff\x9b", r"a\u202eb\udcff\x9b"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_by_its_number(text: str, expected: str) -> None:
    assert endings.shown(text) == expected


@pytest.mark.parametrize(
    ("error", "code", "what"),
    [
        (OSError(errno.ENAMETOOLONG, "too long", "/a/b/" + "c" * 300), 18, "c" * 80 + " cannot be read or written"),
        (OSError(errno.EROFS, "Read-only file system"), 18, "a file cannot be read or written"),
        (OSError(errno.EBADF, "Bad file descriptor"), 1, "a fault of ours (OSError)"),
        (KeyError("x"), 1, "a fault of ours (KeyError)"),
    ],
)  # fmt: skip
def test_what_a_place_refuses_is_no_fault_of_ours(error: Exception, code: int, what: str) -> None:
    told = endings.unexpected(error)

    assert (told.exit_code, told.what) == (code, what)
    assert "/a/b" not in str(told.to_json())
