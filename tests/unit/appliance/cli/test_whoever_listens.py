"""A command of either side ends by its own code and word, whoever listens and whatever a name holds."""

import errno
import importlib
import io
import json
import sys
from typing import Any

import pytest
import typer

from media.errors import SealiftError
from tests.support.unheard import Full, Gone


class OwnError(SealiftError):
    exit_code = 40
    code = "own"


def end_of(side: str, monkeypatch: pytest.MonkeyPatch, work: Any, *flags: str) -> int:
    """Return the exit code of a command whose work is this."""
    shared = importlib.import_module(f"{side}.cli.context")
    app = typer.Typer()

    @app.callback()
    def root(context: typer.Context, *, as_json: bool = typer.Option(False, "--json")) -> None:
        paths = {"config_path": None} if side == "appliance" else {}
        context.obj = shared.Context(as_json=as_json, **paths)

    @app.command("work")
    def _work(context: typer.Context) -> None:
        work(context.obj)

    typed = ["work", *flags]
    monkeypatch.setattr(sys, "argv", ["sealift", *typed])
    with pytest.raises(SystemExit) as ended:
        shared.run(app, typed) if side == "bundler" else shared.run(app)
    return int(ended.value.code or 0)


def refuse(_ours: Any) -> None:
    raise OwnError(what="no \x1b[31mname\x07", why="line\rover", fix="look")


SIDES = pytest.mark.parametrize("side", ["appliance", "bundler"])


@SIDES
@pytest.mark.parametrize("flags", [(), ("--json",)])
@pytest.mark.parametrize("stream", [Gone, Full])
def test_an_error_keeps_its_code_where_nobody_listens(
    side: str, flags: tuple[str, ...], stream: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", stream())
    monkeypatch.setattr(sys, "stderr", stream())

    assert end_of(side, monkeypatch, refuse, *flags) == OwnError.exit_code


@SIDES
def test_what_follows_a_result_is_told_though_its_reader_went_away(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Gone())

    def work(ours: Any) -> None:
        ours.result({}, "the steps of a proof")
        refuse(ours)

    assert end_of(side, monkeypatch, work) == OwnError.exit_code


@SIDES
@pytest.mark.parametrize("stream", [Gone, Full])
def test_talk_that_nobody_hears_ends_no_work(
    side: str, stream: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    def work(ours: Any) -> None:
        ours.say("half of it is done")
        with ours.progress() as bar:
            bar.add_task("the rest", total=1)
        done.append("all")

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream())
        assert end_of(side, monkeypatch, work) == 0

    assert done == ["all"]


@SIDES
def test_a_result_without_room_is_an_error_of_its_own(
    side: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", Full())

    assert end_of(side, monkeypatch, lambda ours: ours.result({}, "made")) == 18
    assert capsys.readouterr().err.startswith("error: the result could not be written")


@SIDES
def test_no_terminal_obeys_a_name(
    side: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    end_of(side, monkeypatch, refuse, "--json")
    end_of(side, monkeypatch, lambda ours: ours.result({}, "proof of \x1b]0;title\x07"))

    shown = capsys.readouterr()
    fields, text = shown.out.split("\n", maxsplit=1)
    assert json.loads(fields)["error"]["what"] == "no \x1b[31mname\x07"
    assert text == "proof of \\x1b]0;title\\x07\n"
    assert r"error: no \x1b[31mname\x07" in shown.err
    assert "\x1b" not in shown.err
    assert "\r" not in shown.err


@SIDES
def test_talk_is_not_turned_into_pictures(
    side: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    end_of(side, monkeypatch, lambda ours: ours.say("5F:AB:3C and :100:"))

    assert capsys.readouterr().err == "5F:AB:3C and :100:\n"


@SIDES
def test_a_question_that_meets_the_end_of_input_was_not_interrupted(
    side: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())

    assert end_of(side, monkeypatch, lambda _: typer.confirm("Do it?", err=True)) == 2
    assert "error: a question was not answered" in capsys.readouterr().err


@SIDES
def test_a_question_with_standard_input_closed_was_not_answered(
    side: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)

    assert end_of(side, monkeypatch, lambda _: typer.confirm("Do it?", err=True)) == 2
    sys.stdin.close()
    assert "error: a question was not answered" in capsys.readouterr().err


@SIDES
def test_a_broken_pipe_of_the_works_own_is_no_success(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(_ours: Any) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    assert end_of(side, monkeypatch, work) == 1


@SIDES
def test_a_place_that_cannot_be_used_is_no_fault_of_ours(
    side: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(_ours: Any) -> None:
        raise OSError(errno.ENAMETOOLONG, "File name too long", "/somewhere/form.json")

    assert end_of(side, monkeypatch, work) == 18
    assert capsys.readouterr().err.splitlines()[:2] == [
        "error: form.json cannot be read or written",
        "  why: File name too long",
    ]
