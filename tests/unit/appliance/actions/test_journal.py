"""What is asked of journalctl, what becomes of what it says, and machines where it says nothing."""

import json
import sys
from pathlib import Path

import pytest
import typer

from appliance.actions import journal
from appliance.actions.journal import EVERY, Asked
from appliance.cli import context as shared
from appliance.cli import logs, main
from appliance.errors import UnitError
from media.errors import UsageError

LINE = {
    "__REALTIME_TIMESTAMP": "1795280400000000",
    "_SYSTEMD_UNIT": "sealift-gateway.service",
    "PRIORITY": "6",
    "MESSAGE": "started",
}


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A journalctl that writes its words into a file and says what lies beside it."""
    made = tmp_path / "bin/journalctl"
    made.parent.mkdir()
    made.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/words\ncat {tmp_path}/said\n')
    made.chmod(0o755)
    (tmp_path / "said").write_text("")
    monkeypatch.setenv("PATH", f"{made.parent}:/usr/bin:/bin")
    return made


def sealift(*words: str, folder: Path) -> int:
    app = typer.Typer()
    app.callback()(main._root)
    app.command("other")(lambda: None)  # so that there is more than one, as in the whole program
    logs.register(app)
    before, sys.argv = sys.argv, ["sealift", "--config", str(folder / "absent.toml"), *words]
    try:
        with pytest.raises(SystemExit) as ended:
            shared.run(app)
    finally:
        sys.argv = before
    return int(str(ended.value.code or 0))


def test_names_are_those_of_our_units_unless_they_have_a_dot() -> None:
    asked = Asked.of(["gateway", "sealift-ledger", "engine-test@*", "nginx.service"], lines=5, since="-1h")

    assert asked.command("journalctl", "--follow") == [
        *("journalctl", "--no-pager", "--quiet", "--lines=5"),
        *("--unit=sealift-gateway", "--unit=sealift-ledger", "--unit=sealift-engine-test@*", "--unit=nginx.service"),
        *("--since=-1h", "--follow"),
    ]
    assert Asked.of([], lines=1).units == (EVERY,)


@pytest.mark.parametrize("name", ["", "-f", "--vacuum-size=1", "a b", "a\n", "../x", "x" * 200, "gäteway"])
def test_what_is_no_units_name_never_reaches_journalctl(name: str) -> None:
    with pytest.raises(UsageError):
        Asked.of([name], lines=1)


def test_its_words_are_told_as_they_are(tool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "said").write_text("2026-11-21T17:00:00 box python[1]: started\n")

    assert sealift("logs", "gateway", "--since", "-1h", folder=tmp_path) == 0
    assert capsys.readouterr().out == "2026-11-21T17:00:00 box python[1]: started\n"
    words = (tmp_path / "words").read_text().splitlines()
    assert words[-4:] == ["--lines=100", "--unit=sealift-gateway", "--since=-1h", "--output=short-iso"]


def test_json_has_when_where_how_grave_and_what(tool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = {**LINE, "MESSAGE": [104, 105, 255], "PRIORITY": "high", "UNIT": "sealift-ledger.service"}
    rest = ["no JSON", "[]", "[" * 100_000, json.dumps({**LINE, "__REALTIME_TIMESTAMP": "9" * 40})]
    said = [json.dumps(LINE), json.dumps(more), json.dumps({**LINE, "MESSAGE": None}), *rest]
    (tmp_path / "said").write_text("\n".join(said) + "\n")

    assert sealift("logs", "--json", folder=tmp_path) == 0
    told = json.loads(capsys.readouterr().out)
    first = {"at": "2026-11-21T17:00:00Z", "unit": "sealift-gateway.service", "priority": 6, "text": "started"}
    assert told["units"] == [EVERY]
    assert told["lines"] == [
        first,
        {**first, "unit": "sealift-ledger.service", "priority": None, "text": "hi\ufffd"},
        {**first, "text": ""},
    ]


def test_following_writes_to_the_terminal_and_is_no_document(
    tool: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "said").write_text("one\ntwo\n")

    assert sealift("logs", "-f", folder=tmp_path) == 0
    assert capfd.readouterr().out == "one\ntwo\n"
    assert "--follow" in (tmp_path / "words").read_text().splitlines()
    assert sealift("logs", "--follow", "--json", folder=tmp_path) == 2


@pytest.mark.parametrize("words", [("logs",), ("logs", "--follow"), ("logs", "--json")])
def test_a_journal_that_cannot_be_read_ends_with_53(
    tool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    tool.write_text("#!/bin/sh\necho 'No journal files were opened due to insufficient permissions.' >&2\nexit 1\n")

    assert sealift(*words, folder=tmp_path) == UnitError.exit_code
    assert "the journal cannot be read" in capsys.readouterr().err


def test_without_journalctl_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UnitError) as refused:
        journal.text(Asked.of([], lines=1))
    assert refused.value.why == "journalctl is not on this machine"
