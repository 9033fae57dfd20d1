"""Every command that the documents and our own messages print exists, with every option that they give it."""

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from appliance.cli.main import build as appliance_app
from bundler.cli.main import build as bundler_app

_ROOT = Path(__file__).resolve().parents[2]
_PAGES = sorted([*(_ROOT / "docs").rglob("*.md"), _ROOT / "README.md"])
_INLINE = re.compile(r"`((?:sealift|sealift-bundler) [^`\n]+)`")
_COMMAND = r"(?:\$ |sudo )?((?:[A-Z_]+=\S+ )*(?:sealift|sealift-bundler) \S.*)$"  # a table has wider gaps
_LINE = re.compile(rf"^ {{4,}}{_COMMAND}")
_FENCED = re.compile(rf"^ *{_COMMAND}")


@cache
def tree(program: str) -> Any:
    return typer.main.get_command(bundler_app() if program == "sealift-bundler" else appliance_app())


def printed(page: Path) -> Iterator[str]:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    is_fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            is_fenced = not is_fenced
        elif found := (_FENCED if is_fenced else _LINE).match(line):
            yield found[1]
        else:
            yield from _INLINE.findall(line)


def _options(node: Any) -> dict[str, bool]:
    """Return a command's options, each with whether a value follows it."""
    known = [one for one in node.params if one.param_type_name == "option"]
    return {name: not one.is_flag for one in known for name in (*one.opts, *one.secondary_opts)}


def faults(command: str) -> list[str]:
    """Return what of a printed command the program does not know."""
    try:
        words = shlex.split(command.split(" #", maxsplit=1)[0], posix=True)
    except ValueError:
        words = command.split()
    while "=" in words[0]:
        words.pop(0)
    node = tree(words.pop(0))
    options = _options(node)
    wrong = []
    rest = iter(words)
    for word in rest:
        if word in {"|", ">", "<", "&&", ";"}:
            break
        if word.startswith("--") and word != "--":
            name = word.partition("=")[0].rstrip(",.;:)]")
            if name not in options and name != "--help":
                wrong.append(f"{name} in: {command}")
            elif options.get(name) and "=" not in word:
                next(rest, "")  # its value, which may look like a command
        elif getattr(node, "commands", None):
            if word in node.commands:
                node = node.commands[word]
                options |= _options(node)
            elif re.fullmatch(r"[a-z][a-z-]+", word):
                wrong.append(f"{word} in: {command}")
            else:
                break  # a placeholder
    return wrong


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.relative_to(_ROOT).as_posix())
def test_what_a_page_prints_can_be_typed(page: Path) -> None:
    assert [fault for command in printed(page) for fault in faults(command)] == []


def said(module: Path) -> Iterator[str]:
    """Return the commands that a module's texts name; what is filled in is a placeholder."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
            yield from _INLINE.findall("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _INLINE.findall(node.value)


@pytest.mark.parametrize("package", ["appliance", "bundler", "media"])
def test_what_a_message_tells_to_type_can_be_typed(package: str) -> None:
    modules = sorted((_ROOT / package).rglob("*.py"))

    assert {
        f"{module.relative_to(_ROOT)}: {fault}"
        for module in modules
        for command in said(module)
        for fault in faults(command)
    } == set()


def test_a_command_that_is_not_there_is_found() -> None:
    assert faults("sealift trust nonsense") == ["nonsense in: sealift trust nonsense"]
    assert faults("sealift-bundler write W /media --nonsense 1") == [
        "--nonsense in: sealift-bundler write W /media --nonsense 1"
    ]
    assert faults("sealift trust note FILE --dry-run") == []


@pytest.mark.parametrize("text", ["    sealift nonsense\n", "```sh\nsealift nonsense\n```\n", "`sealift nonsense`\n"])
def test_a_command_is_found_however_a_page_prints_it(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)

    assert list(printed(page)) == ["sealift nonsense"]
