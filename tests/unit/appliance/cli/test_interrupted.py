"""Ctrl-C inside a command says that it was interrupted, by the exit code of docs/exit-codes.md."""

import json
import sys

import pytest
import typer

from appliance.cli import context


@pytest.mark.parametrize("raised", [KeyboardInterrupt, typer.Abort])
def test_an_interrupted_command_says_so(
    raised: type[BaseException], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()

    @app.command()
    def work() -> None:
        raise raised

    monkeypatch.setattr(sys, "argv", ["sealift"])
    with pytest.raises(SystemExit) as ended:
        context.run(app)

    assert ended.value.code == 130
    assert capsys.readouterr().err.startswith("error: interrupted")


@pytest.mark.parametrize(
    ("raised", "code"),
    [(KeyboardInterrupt, "interrupted"), (typer.BadParameter("no"), "usage"), (RuntimeError, "internal")],
)
def test_an_ending_that_no_command_chose_is_fields_for_a_program(
    raised: BaseException | type[BaseException],
    code: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = typer.Typer()

    @app.callback()
    def root(*, as_json: bool = typer.Option(False, "--json")) -> None:
        del as_json

    @app.command()
    def work() -> None:
        raise raised

    monkeypatch.setattr(sys, "argv", ["sealift", "work", "--json"])
    with pytest.raises(SystemExit):
        context.run(app)

    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
