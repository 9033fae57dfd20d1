"""A guided install as a person or a file of answers drives it, in this process, with lines typed to its questions."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import typer
from typer.testing import CliRunner, Result

from appliance.cli.context import Context

ANSWERS = """format = 1
profile = "cpu"
[site]
hostname = "llm.clinic.internal"
[network]
addresses = ["10.20.0.5"]
clients = ["10.20.0.0/16"]
[time]
confirmed_by = "Gina Goods"
[people]
names = ["Iris Mora", "Omar Haddad"]
[capacity]
seconds = 5
"""
TYPED = [
    *("llm.clinic.internal", "10.20.0.5", "10.20.0.0/16", "10.20.9.0/24"),  # name, network
    *("own", "none", "Gina Goods"),  # authority, time
    *("Iris Mora", "Omar Haddad"),
]
"""What a person types to the questions before the one about backups."""


def typed(
    config_file: Path, commands: Iterable[ModuleType], words: Sequence[str], lines: Sequence[str], *, as_json: bool
) -> Result:
    """Type a command of these, and lines to what it asks; return how it ended."""
    app = typer.Typer()

    @app.callback()
    def root(context: typer.Context) -> None:
        context.obj = Context(config_path=config_file, as_json=as_json)

    for command in commands:
        command.register(app)
    return CliRunner().invoke(app, list(words), input="\n".join([*lines, ""]))


def done(result: Result) -> dict[str, Any]:
    """Hold that a command ended well; return its JSON document."""
    assert result.exit_code == 0, (result.exception, result.output)
    found: dict[str, Any] = json.loads(result.stdout)
    return found
