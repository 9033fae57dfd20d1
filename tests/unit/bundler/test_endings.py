"""Every ending of a command is three lines for a person and, with --json, the same fields for a program."""

import errno
import io
import json
import sys
from pathlib import Path

import pytest
import typer

from bundler.cli import bars, context
from bundler.cli.main import main
from bundler.errors import NotEmptyError
from media.errors import UnreadableError


def ended(app: typer.Typer, *words: str) -> object:
    with pytest.raises(SystemExit) as found:
        context.run(app, list(words))
    return found.value.code


def raising(error: BaseException) -> typer.Typer:
    app = typer.Typer()

    @app.callback()
    def root(*, as_json: bool = typer.Option(False, "--json")) -> None:
        del as_json

    @app.command()
    def work() -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "exit_code", "code", "what"),
    [
        (KeyboardInterrupt(), 130, "interrupted", "interrupted"),
        (RuntimeError("our own"), 1, "internal", "a fault of ours (RuntimeError)"),
        (OSError(errno.EBADF, "Bad file descriptor"), 1, "internal", "a fault of ours (OSError)"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b/note"), 18, "unreadable", "note cannot be read or"),
        (OSError(errno.ENOSPC, "No space left on device"), 18, "unreadable", "a file cannot be read or written"),
    ],
)
def test_what_ends_a_command_is_fields_for_a_program(
    capsys: pytest.CaptureFixture[str], error: BaseException, exit_code: int, code: str, what: str
) -> None:
    assert ended(raising(error), "work", "--json") == exit_code

    said = capsys.readouterr()
    fields = json.loads(said.out)["error"]
    assert (fields["exit_code"], fields["code"]) == (exit_code, code)
    assert fields["what"].startswith(what)
    assert said.err.startswith(f"error: {what}")
    assert "/a/b" not in said.out + said.err


def test_a_wrong_command_line_is_fields_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as found:
        main(["--json", "assess", "power", "--gpus", "many"])

    assert found.value.code == 2
    fields = json.loads(capsys.readouterr().out)["error"]
    assert fields["code"] == "usage"
    assert "--gpus" in fields["what"]
    assert fields["fix"] == "see `sealift-bundler assess power --help`"


def test_a_hand_in_that_its_folder_cannot_take_is_refused_dry_or_not(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"x\.json cannot be written"):
        bars.require_new(tmp_path / "none" / "x.json")
    with pytest.raises(UnreadableError):
        bars.write_new(tmp_path / "none" / "x.json", b"")
    bars.require_new(tmp_path / "x.json")
    (tmp_path / "x.json").touch()
    with pytest.raises(NotEmptyError):
        bars.require_new(tmp_path / "x.json")
    for folder in (tmp_path, Path()):
        with pytest.raises(UnreadableError, match="cannot be written"):
            bars.require_folder(folder)


def test_a_name_that_the_terminal_cannot_show_does_not_end_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of `write` it would end what printed the trust sheet, behind media that were written."""
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="latin-1"))
    app = typer.Typer()

    @app.command()
    def work() -> None:
        context.Context().result({}, "by Łukasz")

    assert ended(app) == 0
    assert shown.getvalue() == b"by \\u0141ukasz\n"
