"""Ctrl-C inside a command says that it was interrupted, by the exit code of docs/exit-codes.md."""

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

    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: interrupted")
