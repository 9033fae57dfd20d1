"""Who may not look is told so: no fault of ours, and no proof that does not hold."""

import os
import sys
from pathlib import Path

import pytest
import typer

from appliance.cli import context, main, prove, receive
from appliance.errors import PrivilegeError
from appliance.places import Places


def ended(monkeypatch: pytest.MonkeyPatch, *, user: int) -> object:
    app = typer.Typer()

    @app.command()
    def work() -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sys, "argv", ["sealift"])
    monkeypatch.setattr(os, "geteuid", lambda: user)
    with pytest.raises(SystemExit) as found:
        context.run(app)
    return found.value.code


def test_a_user_who_may_not_look_is_sent_to_root_and_root_to_the_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(monkeypatch, user=1000) == PrivilegeError.exit_code
    assert "as root" in capsys.readouterr().err
    assert ended(monkeypatch, user=0) == 18
    assert "a file cannot be read or written" in capsys.readouterr().err


def test_a_proof_is_not_begun_by_who_may_not_read_what_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Places(root=tmp_path, run=tmp_path / "run")
    prove.require_rights(places)  # what is not there is for the steps to tell

    def refused(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(PrivilegeError, match="proof"):
        prove.require_rights(places)


def test_a_store_that_this_user_may_not_write_is_no_broken_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive.require_rights(tmp_path / "nothing was ever received")
    receive.require_rights(tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)

    with pytest.raises(PrivilegeError, match="store") as refused:
        receive.require_rights(tmp_path)

    assert "sealift media receive" in refused.value.fix


def test_a_print_that_a_shown_proof_is_not_held_against_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()
    app.callback()(main._root)
    prove.register(app)
    monkeypatch.setattr(sys, "argv", ["sealift", "prove", "req_1", "--printed", "november.txt"])
    with pytest.raises(SystemExit) as refused:
        context.run(app)

    assert refused.value.code == 2
    assert "--printed goes with --out" in capsys.readouterr().err
