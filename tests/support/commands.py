"""`sealift` as a person types it, in this process: chosen commands over a site file, their ending and their output."""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
import typer

from appliance.cli import context as shared
from appliance.cli import main


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def facts(self) -> dict[str, Any]:
        """The JSON document on stdout."""
        found: dict[str, Any] = json.loads(self.out)
        return found


Run = Callable[..., Ended]


def exit_code(config_file: Path, commands: Iterable[ModuleType], words: Iterable[object]) -> int:
    """Run `sealift` with these commands and words; return its exit code. What it prints goes where this process's does.

    Args:
        config_file: The site file.
        commands: Modules of `appliance.cli` that register themselves.
        words: What is typed after the program's name and the site file.
    """
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(main._root)
    for command in commands:
        command.register(app)
    with patch.object(sys, "argv", ["sealift", "--config", str(config_file), *map(str, words)]):
        try:
            shared.run(app)
        except SystemExit as ended:
            return int(ended.code or 0)


def typed(config_file: Path, commands: Iterable[ModuleType], capture: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs `sealift` with what is typed, and says how it ended."""
    commands = tuple(commands)

    def run(*words: object) -> Ended:
        code = exit_code(config_file, commands, words)
        out, err = capture.readouterr()
        return Ended(code=code, out=out, err=err)

    return run


def as_json(run: Run, *words: object) -> dict[str, Any]:
    """Run a command that must succeed, and return its result."""
    ended = run("--json", *words)
    assert ended.code == 0, (words, ended.out, ended.err)
    return ended.facts
