"""Who asks by the real commands, at a site where who requests does not approve: a name alone asks for nothing."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.errors import ApprovalRefusedError, UnknownPersonError
from media.errors import UsageError
from tests.support.promoting import bring, enrol_all, homes, medium_of
from tests.support.running_site import Run, RunningSite, as_json, runner, running_site
from tests.support.versions import short_folder

__all__ = ["homes"]
pytestmark = pytest.mark.slow


@pytest.fixture
def site() -> Iterator[RunningSite]:
    with short_folder() as root, running_site(root, medium_of(1), more='[policy]\nrequest = "person"\n') as running:
        yield running


@pytest.fixture
def sealift(site: RunningSite, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(site, capsys)


def test_a_request_takes_the_password_of_who_asks_and_what_follows_takes_none(
    site: RunningSite, sealift: Run, homes: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol_all(site, sealift, homes)
    first, second = list(homes)[:2]
    digest = bring(site, 1)
    as_json(sealift, "validate", digest)
    wrong, right = site.root / "wrong", ("--password-file", str(site.root / "password"))
    wrong.write_text("guessed\n")
    thresholds = site.root / "ward.toml"
    thresholds.write_text('format = 1\nname = "ward"\n[task_evaluation]\nminimum_accuracy_millis = 400\n')
    monkeypatch.setattr("sys.stdin", io.StringIO())

    asking = ("promote", digest, "--as", second)
    importing = ("policy", "import", str(thresholds), "--as", second, "--reason", "our wards")
    for command in (asking, importing):
        assert sealift(*command).code == UsageError.exit_code
        assert sealift(*command, "--password-file", str(wrong)).code == UnknownPersonError.exit_code
        as_json(sealift, *command, *right)

    assert as_json(sealift, "policy", "list")["waiting"][0]["approved_by"] == []
    with_key = {person: ("--as", person, "--gnupg-home", str(home), "--yes") for person, home in homes.items()}
    assert sealift("approve", digest, *with_key[second]).code == ApprovalRefusedError.exit_code
    as_json(sealift, "approve", digest, *with_key[first])
    waits = sealift(*asking)  # it waits already, so nobody is asked who asks
    assert "waits for approvals" in waits.err
