"""The command's own shape: version, help, endings."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_group

from appliance.cli import main
from appliance.cli.everywhere import ANYWHERE
from appliance.cli.outline import OUTLINE, Outlined, module_of
from media.errors import UsageError

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


def loaded(*words: str) -> tuple[set[str], str]:
    """Return the modules of ours and others' that a line loads, and what it prints."""
    told = "import sys; from appliance.cli.main import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    line = [sys.executable, "-c", told, *words]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    return set(done.stderr.splitlines()[-1].split()), done.stdout


def test_help_loads_no_command() -> None:
    modules, told = loaded("--help")

    assert all(f" {name} " in told for name in OUTLINE)
    assert not modules & {"sqlalchemy", "flask", *map(module_of, OUTLINE)}


def test_a_command_loads_its_own_module_alone() -> None:
    modules, told = loaded("--json", "box-keys", "--help")

    assert "rotate" in told
    assert modules & set(map(module_of, OUTLINE)) == {"appliance.cli.boxkeys"}


def test_what_is_listed_is_what_the_modules_have() -> None:
    commands = get_group(main.build()).commands

    assert {name: " ".join((one.help or "").split("\n\n")[0].split()) for name, one in commands.items()} == OUTLINE


def test_each_command_is_of_the_module_that_is_loaded_for_it() -> None:
    """Another module would leave the command unknown."""
    for name in OUTLINE:
        alone = typer.Typer()
        alone.callback()(lambda: None)
        importlib.import_module(module_of(name)).register(alone)
        assert name in get_group(alone).commands, f"{name} is not of {module_of(name)}"


def test_a_command_is_loaded_once_and_takes_what_every_command_takes() -> None:
    root: Any = get_group(typer.Typer(cls=Outlined, callback=main._root))

    (name, found, rest), (_, again, _) = (root.resolve_command(None, ["clock", "show"]) for _ in range(2))

    assert (name, rest, found) == ("clock", ["show"], again)
    assert [one.opts for one in found.commands["show"].params if one.opts[0] in ANYWHERE] == [["--json"], ["--debug"]]


@pytest.mark.parametrize("line", ["", "audit", "tls clients"])
def test_a_line_without_a_command_is_one_document_with_json_and_else_help(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Help stood before the document, and the error said nothing."""
    for words in (line.split(), [*line.split(), "--json"]):
        monkeypatch.setattr(sys, "argv", ["sealift", *words])
        with pytest.raises(SystemExit) as ended:
            main.main()
        out, err = capsys.readouterr()
        assert ended.value.code == UsageError.exit_code
        assert err.startswith("error: Missing command.\n  fix: ")
        if "--json" in words:
            assert json.loads(out)["error"]["what"] == "Missing command."
        else:
            assert "Usage: " in out
