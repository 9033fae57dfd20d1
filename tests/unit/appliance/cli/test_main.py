"""The command's own shape: version, help, endings."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.main import get_group

from appliance.cli import main

BIN = Path(sys.executable).parent


@pytest.mark.slow  # processes of their own, a second and more each
@pytest.mark.parametrize("program", ["sealift", "sealift-bundler"])
def test_the_version_is_printed(program: str) -> None:
    done = subprocess.run([str(BIN / program), "--version"], capture_output=True, text=True, check=True)

    assert done.stdout.startswith(f"{program} ")


@pytest.mark.slow  # processes of their own, a second and more each
def test_a_wrong_command_ends_with_2_and_says_where_to_look() -> None:
    done = subprocess.run([str(BIN / "sealift"), "nope"], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "sealift --help" in done.stderr


@pytest.mark.slow  # processes of their own, a second and more each
def test_a_wrong_line_of_a_command_says_to_look_at_that_command() -> None:
    line = [str(BIN / "sealift"), "chat", "a-model"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "`sealift chat --help`" in done.stderr


@pytest.mark.slow  # processes of their own, a second and more each
def test_a_missing_site_file_ends_with_50_in_three_lines(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(BIN / "sealift"), "--config", str(tmp_path / "none.toml"), "status"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 50
    assert [line.split(":")[0].strip() for line in done.stderr.splitlines()] == ["error", "why", "fix"]


@pytest.mark.parametrize(
    ("line", "module"),
    [
        ("rollback --as iris", "rollback"),
        ("--json --config /etc/x.toml stop --as iris", "stop"),
        ("canary start x", "canary"),
        ("models list", "versions"),
        ("run models/a", "ask"),
        ("--help", ""),
        ("--config", ""),
        ("nonsense", ""),
    ],
)
def test_only_the_module_of_the_command_that_is_asked_for_is_loaded(line: str, module: str) -> None:
    assert main.asked(line.split()) == module


def test_the_module_that_is_loaded_alone_has_the_command_that_is_asked_for() -> None:
    """A wrong guess would make a command unknown."""
    modules = {command: main.asked([command]) for command in get_group(main.build()).commands}

    for command, module in modules.items():
        alone = typer.Typer()
        alone.callback()(lambda: None)
        importlib.import_module(f"appliance.cli.{module}").register(alone)
        assert command in get_group(alone).commands, f"{command} is not of {module}"


def test_the_version_loads_one_module() -> None:
    assert main.asked(["--version"]) != ""
