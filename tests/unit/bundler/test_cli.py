import importlib
import json
from pathlib import Path

import pytest

from bundler.cli.main import create_app, main
from tests.support.payload import recipe_folder


def ended(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_every_command_is_there_and_says_what_it_does() -> None:
    commands = {command.name: command.callback for command in create_app().registered_commands}

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
    } <= set(commands) | {group.name for group in create_app().registered_groups}
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

    assert ended(["--help"]) == 2
    said = capsys.readouterr().err
    assert "packaging is not installed here" in said
    assert "connected machine" in said


def test_help_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["--help"]) == 0
    assert "rehearse" in capsys.readouterr().out
