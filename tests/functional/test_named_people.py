"""Who is named by --as is somebody: a record under a name of nobody's would be laid at no one's door."""

from pathlib import Path

import pytest

from appliance.cli import samples, stage
from appliance.errors import UnknownPersonError
from tests.support.commands import Run, as_json, typed
from tests.support.promoting import bring, enrol_all, homes, site
from tests.support.running_site import COMMANDS, RunningSite

__all__ = ["homes", "site"]
pytestmark = pytest.mark.slow


@pytest.fixture
def sealift(site: RunningSite, capsys: pytest.CaptureFixture[str]) -> Run:
    return typed(site.config.at.config_file, (*COMMANDS, samples, stage), capsys)


@pytest.mark.parametrize("named", ["nobody", "Eva Rossi", "automation:x@eva-rossi", "eva-rossi\n"])
def test_a_name_of_nobodys_lends_no_version_and_opens_no_sample(
    site: RunningSite, sealift: Run, homes: dict[str, Path], named: str
) -> None:
    enrol_all(site, sealift, homes)
    version = bring(site, 1)
    as_json(sealift, "validate", version)

    for command in (
        ("stage", "load", version, "--as", named),
        ("stage", "unload", version, "--as", named),
        ("samples", "show", "req_aaaaaaaaaaaaaaaaaaaaaaaaaa", "--as", named, "--reason", "x"),
        ("samples", "draw", "--as", named),
        ("samples", "rate", "req_aaaaaaaaaaaaaaaaaaaaaaaaaa", "good", "--as", named),
    ):
        assert sealift(*command).code == UnknownPersonError.exit_code, command
    assert as_json(sealift, "stage", "load", version, "--as", "eva-rossi", "--dry-run")
