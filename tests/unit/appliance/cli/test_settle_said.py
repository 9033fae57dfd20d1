"""`sealift install --settle`: what a dry run says of an install that was cut off, and that it leaves it so."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from appliance import config as configuration
from appliance.cli import context as shared
from appliance.cli import install, main
from appliance.config import Places
from appliance.errors import InstallError
from appliance.install.trial import NONE, Trial, Trials

CUT_OFF = Trial(serial=7, release="r7", previous=NONE, at="2026-11-20T08:00:00Z")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    place = tmp_path / "sealift.toml"
    place.write_text(f'site = "ward-7"\n[places]\nroot = "{tmp_path}"\n')
    return place


def settled(site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, Any]:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(main._root)
    install.register(app)
    typed = ["sealift", "--json", "--config", str(site), "install", "--settle", "--dry-run"]
    monkeypatch.setattr(sys, "argv", typed)
    code = 0
    try:
        shared.run(app)
    except SystemExit as ended:
        code = int(ended.code or 0)
    return code, json.loads(capsys.readouterr().out)


def places_of(site: Path) -> Places:
    return configuration.load(site).at


def test_a_dry_run_takes_nothing_back(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = Trials(places_of(site))
    assert settled(site, capsys, monkeypatch) == (0, {"dry_run": True, "would_return": None})
    places_of(site).releases.mkdir(parents=True)
    trials.begin(CUT_OFF)

    code, said = settled(site, capsys, monkeypatch)

    assert (code, said["would_return"]["serial"], said["would_return"]["back_to"]) == (0, 7, NONE)
    assert trials.pending() == CUT_OFF
    with trials.locked():
        assert settled(site, capsys, monkeypatch)[0] == InstallError.exit_code
