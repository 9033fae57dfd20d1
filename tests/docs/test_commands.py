"""Every command that the documents print exists, with every option that they give it."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from appliance.cli.main import build as appliance_app
from bundler.cli.main import create_app as bundler_app

_ROOT = Path(__file__).resolve().parents[2]
_PAGES = sorted([*(_ROOT / "docs").rglob("*.md"), _ROOT / "README.md"])
_INLINE = re.compile(r"`((?:sealift|sealift-bundler) [^`\n]+)`")
_LINE = re.compile(r"^ {4,}(?:\$ |sudo )?((?:[A-Z_]+=\S+ )*(?:sealift|sealift-bundler) .+)$")


@cache
def tree(program: str) -> Any:
    return typer.main.get_command(bundler_app() if program == "sealift-bundler" else appliance_app())


def printed(page: Path) -> Iterator[str]:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        found = _LINE.match(line)
        if found:
            yield found[1]
        else:
            yield from _INLINE.findall(line)


def faults(command: str) -> list[str]:
    """Return what of a printed command the program does not know."""
    try:
        words = shlex.split(command.split(" #", maxsplit=1)[0], posix=True)
    except ValueError:
        words = command.split()
    while "=" in words[0]:
        words.pop(0)
    node = tree(words.pop(0))
    options = {name for parameter in node.params for name in (*parameter.opts, *parameter.secondary_opts)}
    wrong = []
    for word in words:
        if word in {"|", ">", "<", "&&", ";"}:
            break
        if word.startswith("--") and word != "--":
            name = word.partition("=")[0].rstrip(",.;:)]")
            if name not in options and name != "--help":
                wrong.append(f"{name} in: {command}")
        elif getattr(node, "commands", None):
            if word in node.commands:
                node = node.commands[word]
                options |= {name for parameter in node.params for name in (*parameter.opts, *parameter.secondary_opts)}
            elif re.fullmatch(r"[a-z][a-z-]+", word):
                wrong.append(f"{word} in: {command}")
            else:
                break  # a placeholder
    return wrong


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.relative_to(_ROOT).as_posix())
def test_what_a_page_prints_can_be_typed(page: Path) -> None:
    assert [fault for command in printed(page) for fault in faults(command)] == []


def test_a_command_that_is_not_there_is_found() -> None:
    assert faults("sealift trust nonsense") == ["nonsense in: sealift trust nonsense"]
    assert faults("sealift-bundler write W /media --nonsense 1") == [
        "--nonsense in: sealift-bundler write W /media --nonsense 1"
    ]
    assert faults("sealift trust note FILE --dry-run") == []
