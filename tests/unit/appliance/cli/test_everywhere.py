"""What every command takes: said in each command's own help, completed there, and taken anywhere on a line."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from appliance.cli import everywhere as of_appliance
from appliance.cli.main import build
from bundler.cli import everywhere as of_bundler
from bundler.cli.main import build as build_bundler

PROGRAMS: dict[str, tuple[Callable[[], typer.Typer], Any]] = {
    "sealift": (build, of_appliance),
    "sealift-bundler": (build_bundler, of_bundler),
}


def _commands(node: Any, name: str) -> Iterator[tuple[str, Any]]:
    for word, command in getattr(node, "commands", {}).items():
        yield f"{name} {word}", command
        yield from _commands(command, f"{name} {word}")


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_help_of_every_command_says_what_every_command_takes(program: str) -> None:
    made, everywhere = PROGRAMS[program]

    found = dict(_commands(everywhere.command_of(made()), program))

    assert len(found) > 20
    for name, command in found.items():
        options = [option for one in command.params for option in one.opts]
        assert [options.count(one) for one in everywhere.ANYWHERE] == [1, 1], name


def test_a_command_that_is_told_of_no_such_option_runs_with_it() -> None:
    app, ran = typer.Typer(), list[str]()

    @app.callback()
    def root(as_json: bool = typer.Option(False, "--json")) -> None: ...

    @app.command("one")
    def one() -> None:
        ran.append("one")

    of_appliance.command_of(app)(args=["one", "--json"], standalone_mode=False)
    assert ran == ["one"]


@pytest.mark.slow  # a process of Python for each
@pytest.mark.parametrize("words", ["sealift status --j", "sealift census show --j", "sealift-bundler inspect --j"])
def test_it_is_completed_behind_a_command(words: str) -> None:
    program = words.split(maxsplit=1)[0]
    variable = f"_{program.upper().replace('-', '_')}_COMPLETE"
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1), variable: "complete_bash"}

    done = subprocess.run(
        [Path(sys.executable).parent / program],
        env={"PATH": os.environ["PATH"], **asked},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert done.stdout.split() == ["--json"]
