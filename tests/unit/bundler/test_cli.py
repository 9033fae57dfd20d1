import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_group

from bundler.cli.everywhere import ANYWHERE
from bundler.cli.main import build, create_app, main
from bundler.cli.outline import OUTLINE, Outlined, module_of
from tests.support.payload import recipe_folder


def ended(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_every_command_is_there_and_says_what_it_does() -> None:
    commands = {command.name: command.callback for command in build().registered_commands}

    assert {
        "ceremony",
        "build",
        "rehearse",
        "attest",
        "sign",
        "seal",
        "labels",
        "write",
        "remake",
        "check",
        "custody",
        "register",
        "reissue",
        "inspect",
        "diff",
    } <= set(commands) | {group.name for group in build().registered_groups}
    assert all(callback is not None and callback.__doc__ for callback in commands.values())


def test_an_error_is_three_lines_and_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = ended(["build", str(tmp_path / "none.toml"), "--work", str(tmp_path / "work")])

    said = capsys.readouterr()
    assert code == 60
    assert said.out == ""
    assert [line.partition(":")[0] for line in said.err.splitlines()] == ["error", "  why", "  fix"]


def test_an_error_is_fields_for_a_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended(["build", str(tmp_path / "none.toml"), "--work", str(tmp_path / "work"), "--json"])

    assert json.loads(capsys.readouterr().out)["error"]["code"] == "recipe"


def test_a_recipe_can_be_checked_without_building(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recipe_folder(tmp_path)

    code = ended(["--json", "build", str(path), "--work", str(tmp_path / "work"), "--dry-run"])

    assert code == 0
    assert json.loads(capsys.readouterr().out)["release"] == "small"
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("arguments", [["build"], ["no-such-command"], ["build", "x", "--no-such-option"]])
def test_a_command_line_that_makes_no_sense_ends_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(arguments) == 2
    assert "--help" in capsys.readouterr().err


def test_a_box_that_has_the_command_and_not_its_libraries_says_where_it_is_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(importlib, "import_module", lambda _: absent("packaging"))

    assert ended(["build", "recipe.toml"]) == 2
    said = capsys.readouterr().err
    assert "packaging is not installed here" in said
    assert "connected machine" in said


def test_help_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["--help"]) == 0
    assert "rehearse" in capsys.readouterr().out


def test_help_loads_no_command() -> None:
    told = "import sys; from bundler.cli.main import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", told, "--help"], capture_output=True, text=True, check=False, timeout=60
    )

    assert all(f" {name} " in done.stdout for name in OUTLINE)
    assert not set(done.stderr.splitlines()[-1].split()) & {"cryptography", "pydantic", *map(module_of, OUTLINE)}


def test_what_is_listed_is_what_the_modules_have() -> None:
    commands = get_group(build()).commands

    assert {name: " ".join((one.help or "").split("\n\n")[0].split()) for name, one in commands.items()} == OUTLINE


def test_each_command_is_of_the_module_that_is_loaded_for_it() -> None:
    """Another module would leave the command unknown."""
    for name in OUTLINE:
        alone = typer.Typer()
        alone.callback()(lambda: None)
        importlib.import_module(module_of(name)).register(alone)
        assert name in get_group(alone).commands, f"{name} is not of {module_of(name)}"


def test_a_command_is_loaded_once_and_takes_what_every_command_takes() -> None:
    root: Any = get_group(create_app())
    assert isinstance(root, Outlined)

    (name, found, rest), (_, again, _) = (root.resolve_command(None, ["key", "show"]) for _ in range(2))

    assert (name, rest, found) == ("key", ["show"], again)
    assert [one.opts for one in found.commands["show"].params if one.opts[0] in ANYWHERE] == [["--json"], ["--debug"]]
