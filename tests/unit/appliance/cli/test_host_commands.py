"""install, status, doctor and run-units as a person types them, below a folder."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from appliance.cli import doctor, install, run_units, status
from appliance.cli.context import Context
from appliance.errors import UnknownReleaseError
from appliance.install.releases import InstalledReleases
from media.errors import UsageError
from tests.support.installable import places_below, small_release, store_release


@pytest.fixture
def config_path(tmp_path: Path) -> Path:
    path = tmp_path / "etc/sealift/sealift.toml"
    path.parent.mkdir(parents=True)
    path.write_text(f'site = "s"\nenvironment = "demo"\n[places]\nroot = "{tmp_path}"\nrun = "/run/sl-absent"\n')
    return path


def typed(config_path: Path, *words: str, as_json: bool = False) -> Any:
    app = typer.Typer()

    @app.callback()
    def root(context: typer.Context) -> None:
        context.obj = Context(config_path=config_path, as_json=as_json)

    for command in (doctor, install, run_units, status):
        command.register(app)
    return CliRunner().invoke(app, list(words))


@pytest.mark.slow
def test_install_says_what_it_did_and_then_that_nothing_changed(config_path: Path, tmp_path: Path) -> None:
    store_release(places_below(tmp_path), small_release())

    first = typed(config_path, "install")
    second = typed(config_path, "install")
    facts = json.loads(typed(config_path, "install", "--dry-run", as_json=True).stdout)

    assert "installed release r1 (serial 1)" in first.stdout
    assert "there is no Ansible without root" in first.stdout
    assert second.stdout == "release r1 (serial 1) is installed already: nothing was changed\n"
    assert facts["changed"] is False
    assert InstalledReleases(places_below(tmp_path)).require_current().serial == 1


def test_install_without_a_release_is_an_error_of_ours(config_path: Path) -> None:
    assert isinstance(typed(config_path, "install").exception, UnknownReleaseError)


def test_status_shows_every_part_even_of_nothing(config_path: Path) -> None:
    shown = typed(config_path, "status")
    facts = json.loads(typed(config_path, "status", as_json=True).stdout)

    assert shown.exit_code == 0
    assert "✗ release" in shown.stdout
    assert "· production" in shown.stdout
    known = {"release", "production", "test stage", "rollout", "window", "reviews", "clock", "units", "addresses"}
    assert set(facts) == known | {"store", "disks", "ledger", "backup", "egress"}


def test_the_doctor_ends_with_its_own_code_and_one_document(config_path: Path) -> None:
    result = typed(config_path, "doctor", as_json=True)
    told = typed(config_path, "doctor")

    facts = json.loads(result.stdout)
    assert result.exit_code == 52
    assert facts["good"] is False
    assert {"profile", "python", "platform", "glibc", "cpu_flags", "gpus", "driver"} == set(facts["machine"])
    assert "fix: run `sealift install`" in told.stdout


def test_stopping_units_that_do_not_run_says_so(config_path: Path) -> None:
    assert typed(config_path, "run-units", "--stop").stdout == "nothing was running\n"


def test_stop_goes_with_nothing_else(config_path: Path) -> None:
    assert isinstance(typed(config_path, "run-units", "--stop", "--background").exception, UsageError)
