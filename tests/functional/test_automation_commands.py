"""Automation keys by the real commands, and which version the site's rules give: over a real ledger and promoter."""

from pathlib import Path

import pytest

from appliance.cli import automation, route
from appliance.errors import AutomationRefusedError
from tests.support.commands import Run, as_json, typed
from tests.support.promoting import bring, enrol_all, homes, serve, site
from tests.support.running_site import COMMANDS, RunningSite

__all__ = ["homes", "site"]
pytestmark = pytest.mark.slow


@pytest.fixture
def sealift(site: RunningSite, capsys: pytest.CaptureFixture[str]) -> Run:
    return typed(site.config.at.config_file, (*COMMANDS, automation, route), capsys)


def test_a_key_is_made_shown_once_listed_and_ended_and_stands_for_nobody(
    site: RunningSite, sealift: Run, homes: dict[str, Path]
) -> None:
    enrol_all(site, sealift, homes)
    first, second = list(homes)[:2]
    password = ("--password-file", str(site.root / "password"))
    wanted = ("automation", "create", "--name", "nightly", "--as", first, "--scope", "request", *password)

    assert as_json(sealift, *wanted, "--dry-run")["key"] == ""
    assert as_json(sealift, "automation", "list")["keys"] == []
    made = as_json(sealift, *wanted)
    assert made["key"].startswith("sl-auto-")
    assert made["actor"] == f"automation:nightly@{first}"
    listed = sealift("automation", "list").out
    assert made["actor"] in listed
    assert made["key"] not in listed
    assert sealift(*wanted[:5], "nobody", *password).code != 0

    version = bring(site, 1)
    assert as_json(sealift, "validate", version)["passed"] is True
    refused = sealift("--json", "promote", version, "--as", made["actor"])
    assert refused.code == AutomationRefusedError.exit_code
    for command in (
        ("stop", "--version", version, "--as", made["actor"], "--reason", "x"),
        ("rollback", "--as", made["actor"], "--reason", "x"),
        ("approve", version, "--as", made["actor"], "--yes"),
    ):
        assert sealift("--json", *command).code != 0, command

    ended = as_json(
        sealift, "automation", "revoke", "nightly", "--as", second, "--reason", "the job is gone", *password
    )
    assert ended["ended"]
    assert ended["ended"] in sealift("automation", "list").out


def test_the_rules_of_a_site_say_which_version_answers_and_why(
    site: RunningSite, sealift: Run, homes: dict[str, Path]
) -> None:
    assert sealift("route", "explain").code != 0  # nothing is in production
    enrol_all(site, sealift, homes)
    version = bring(site, 1)
    serve(sealift, version, homes)
    with site.config.at.config_file.open("a") as stream:
        stream.write(f'[[router.rules]]\nname = "notes"\ntasks = ["notes"]\nmodel = "{version[:12]}"\n')

    notes = as_json(sealift, "route", "explain", "--task", "notes")
    other = as_json(sealift, "route", "explain", "--task", "letters")

    assert (notes["rule"], notes["answers"]) == ("notes", version)
    assert (other["rule"], other["answers"]) == ("", version)
    assert "no rule applies" in sealift("route", "explain").out
