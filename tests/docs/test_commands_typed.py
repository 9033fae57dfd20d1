"""What a page prints as a whole line is one that the program takes: arguments, needed options, kinds of values, times.

`test_commands` looks whether commands and options are there; this one has the program read each line, and stops before
anything runs. A word in capitals, as SERIAL, stands for what a person fills in.
"""

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from typer.exceptions import TyperException

from appliance.actions.auditing.span import moment
from media.errors import SealiftError
from tests.docs.test_commands import _FENCED, _LINE, _PAGES, _ROOT, tree

_NUMBERS = {"SERIAL", "NUMBER", "SEQUENCE", "N", "HOLD"}  # which a person fills in
_ANYWHERE = {"--json", "--debug"}
_ENDS = {"|", ">", "<", "&&", ";"}
_TIMES = {"--since", "--until"}
_REMARK = re.compile(r"(?<!\S)#.*|(?<=\S) {2,}(?=[a-z]).*")
_CEREMONY = "SEALIFT_CEREMONY"


def whole_lines(page: Path) -> Iterator[str]:
    """Yield the commands that a page prints on lines of their own."""
    is_fenced = False
    for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if line.lstrip().startswith("```"):
            is_fenced = not is_fenced
        elif found := (_FENCED if is_fenced else _LINE).match(line):
            yield found[1]


def fault(line: str) -> str:
    """Return what the program has against a line, or nothing."""
    path, *words = _words(line)
    node = tree(path)
    while getattr(node, "commands", None) and words and words[0] in node.commands:
        path, node = f"{path} {words[0]}", node.commands[words.pop(0)]
    try:
        node.make_context(path, list(words))
    except typer.Exit:  # --help
        return ""
    except TyperException as wrong:
        return "" if "does not exist" in wrong.format_message() else f"{line}: {wrong.format_message()}"
    return "" if path == "sealift logs" else _time_fault(line, words)  # journalctl reads its times


def _words(line: str) -> list[str]:
    found: list[str] = []
    for word in shlex.split(_REMARK.sub("", line)):
        if word in _ENDS:
            break
        word = word.strip("[],")  # noqa: PLW2901 - what may be left out is typed
        if word not in _ANYWHERE and ("=" not in word or found):  # not what is set for the command before it
            found.append("4711" if word in _NUMBERS else word)
    return found


def _time_fault(line: str, words: list[str]) -> str:
    for option, value in pairwise(words):
        try:
            if option in _TIMES:
                moment(value)
        except SealiftError as wrong:
            return f"{line}: {wrong.what}"
    return ""


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.relative_to(_ROOT).as_posix())
def test_a_whole_line_is_one_that_the_program_takes(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(_CEREMONY, raising=False)
    if _CEREMONY in page.read_text(encoding="utf-8"):
        monkeypatch.setenv(_CEREMONY, "ceremony")

    assert [wrong for line in whole_lines(page) if (wrong := fault(line))] == []


def test_a_line_that_the_program_would_refuse_is_found() -> None:
    assert "Missing argument" in fault("sealift validate")
    assert "Missing option" in fault("sealift stop --as iris  # why is not said")
    assert "is no time" in fault("sealift affected --version a --since 2026-11-20T00:00Z")
    assert fault("sealift affected --version a --since 2026-11-20T00:00:00Z  whom it touched") == ""


def _sockets() -> set[str]:
    """Return the services that a socket starts again when somebody asks."""
    texts = [path.read_text(encoding="utf-8") for path in (_ROOT / "systemd").glob("*.socket")]
    return {found[1] for text in texts if (found := re.search(r"^Service=(\S+?)(?:\.service)?$", text, re.MULTILINE))}


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.relative_to(_ROOT).as_posix())
def test_what_is_stopped_is_not_started_by_its_socket(page: Path) -> None:
    stopped = re.findall(r"systemctl stop ([^`\n#]+)", page.read_text(encoding="utf-8"))
    named = {word.strip("'").removesuffix(".service") for words in stopped for word in words.split()}

    assert named & _sockets() == set()
