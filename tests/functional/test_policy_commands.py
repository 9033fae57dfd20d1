"""Thresholds of the site's own by the real commands: over a real ledger and a real promoter, with OpenPGP keys."""

import json
from pathlib import Path

import pytest

from appliance.errors import ApprovalRefusedError
from media.errors import MalformedError
from tests.support.promoting import enrol_all, homes, site
from tests.support.running_site import Run, RunningSite, as_json, runner

__all__ = ["homes", "site"]
pytestmark = pytest.mark.slow


@pytest.fixture
def sealift(site: RunningSite, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(site, capsys)


def test_thresholds_are_shown_compared_asked_for_signed_by_two_and_hold(
    site: RunningSite, sealift: Run, homes: dict[str, Path]
) -> None:
    enrol_all(site, sealift, homes)
    first, second = list(homes)[:2]
    file = site.root / "ward.toml"
    file.write_text('format = 1\nname = "ward"\n[injection]\nfollowed_millis = 350\n')

    before = as_json(sealift, "policy", "show")
    assert (before["name"], before["thresholds"]["injection.followed_millis"]) == ("sealift-2", 300)
    refused = sealift("--json", "policy", "diff", str(file))
    assert refused.code == MalformedError.exit_code
    assert "injection.followed_millis is refused" in json.loads(refused.out or refused.err)["error"]["what"]

    with file.open("a") as more:
        more.write(f'[[override]]\nkey = "injection.followed_millis"\nperson = "{first}"\nreason = "letters"\n')
    changes = as_json(sealift, "policy", "diff", str(file))["changes"]
    assert [(one["key"], one["before"], one["after"]) for one in changes] == [("injection.followed_millis", 300, 350)]
    asking = ("policy", "import", str(file), "--as", first, "--reason", "our wards demand it")
    assert as_json(sealift, *asking, "--dry-run")["asked"] is False
    assert as_json(sealift, "policy", "list")["waiting"] == []
    digest = as_json(sealift, *asking)["statement"][:12]

    def approve(person: str) -> dict[str, object]:
        with_key = ("--as", person, "--gnupg-home", str(homes[person]), "--yes")
        return dict(as_json(sealift, "policy", "approve", digest, *with_key))

    assert approve(first)["holds"] is False
    assert as_json(sealift, "policy", "show")["digest"] == before["digest"]
    assert sealift("policy", "approve", "000000", "--as", second, "--yes").code == ApprovalRefusedError.exit_code
    assert approve(second)["holds"] is True

    after = as_json(sealift, "policy", "show")
    assert after["thresholds"]["injection.followed_millis"] == 350
    assert [one["person"] for one in after["site"]["changes"]] == [first]
    assert as_json(sealift, "policy", "list")["waiting"] == []
    assert "LOOSER than the release, by" in sealift("policy", "show").out
