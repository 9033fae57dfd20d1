"""`sealift census`: imported by somebody, recorded in the ledger, shown without a name, taken away."""

import io
import sys
from pathlib import Path

import pytest

from appliance.actions import census as action
from appliance.audit.client import open_ledger
from appliance.audit.rights import ACTIONS
from appliance.cli import census
from appliance.errors import PrivilegeError, UnknownPersonError
from appliance.phi.censusfile import NAME
from media.errors import MalformedError, UsageError
from tests.support.commands import Run, as_json, typed
from tests.support.promoting import enrol_all, homes, site
from tests.support.running_site import COMMANDS, RunningSite

__all__ = ["homes", "site"]
pytestmark = pytest.mark.slow
AS = ("--as", "eva-rossi")


@pytest.fixture
def sealift(site: RunningSite, capsys: pytest.CaptureFixture[str]) -> Run:
    return typed(site.config.at.config_file, (*COMMANDS, census), capsys)


def bodies(site: RunningSite, kind: str) -> list[dict[str, object]]:
    ledger = open_ledger(site.config, ACTIONS)
    try:
        return [dict(leaf.body) for leaf in ledger.find(kind)]
    finally:
        ledger.close()


def test_a_list_is_imported_shown_and_forgotten(
    site: RunningSite, sealift: Run, homes: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol_all(site, sealift, homes)
    listed, file = tmp_path / "list.csv", site.config.at.census / NAME
    listed.write_text("family;given\nDoe;Jane\nRoe;Max\nDoe;Jane\n")
    columns = ("--column", "family", "--column", "given")

    assert as_json(sealift, "census", "import", listed, *columns, *AS, "--dry-run") == {
        "names": 2, "rows": 3, "unseen": 0, "dry_run": True,
    }  # fmt: skip
    assert not file.exists()
    done = as_json(sealift, "census", "import", listed, *columns, *AS)
    (body,) = bodies(site, "census.imported")
    assert (body["names"], body["person"], done["names"]) == (2, "eva-rossi", 2)
    assert b"Doe" not in file.read_bytes()

    shown = as_json(sealift, "census", "show")
    assert (shown["names"], shown["by"], shown["fault"], shown["age_days"]) == (2, "eva-rossi", None, 0)
    assert "Doe" not in sealift("census", "show").out

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Ann Other\n")))
    assert as_json(sealift, "census", "import", "-", *AS)["names"] == 1

    assert as_json(sealift, "census", "forget", *AS, "--reason", "moved", "--dry-run") == {"dry_run": True}
    assert file.exists()
    assert as_json(sealift, "census", "forget", *AS, "--reason", "moved") == {"forgotten": True}
    assert not file.exists()
    assert bodies(site, "census.forgotten") == [{"person": "eva-rossi", "reason": "moved"}]
    assert as_json(sealift, "census", "show")["names"] == 0

    for person in ("nobody", "Eva Rossi"):
        assert sealift("census", "import", listed, *columns, "--as", person).code == UnknownPersonError.exit_code
        assert sealift("census", "forget", "--as", person, "--reason", "x").code == UnknownPersonError.exit_code
    listed.write_bytes(b"Jane Doe\nhush\x07\n")
    ended = sealift("census", "import", listed, *AS)
    assert ended.code == MalformedError.exit_code
    assert "line 2" in ended.err
    assert "hush" not in ended.out + ended.err
    assert sealift("census", "import", tmp_path / "none", *AS).code == UsageError.exit_code
    assert not file.exists()
    assert len(bodies(site, "census.imported")) == 2


def test_an_operator_sees_what_is_recorded_and_is_told_who_changes_it(
    site: RunningSite, sealift: Run, homes: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol_all(site, sealift, homes)
    (tmp_path / "names.txt").write_text("Jane Doe\n")
    as_json(sealift, "census", "import", tmp_path / "names.txt", *AS)
    (site.config.at.census / NAME).unlink()  # as good as out of reach, for who may not look
    assert as_json(sealift, "census", "show")["fault"]

    monkeypatch.setattr(census, "is_operator", lambda _: True)
    monkeypatch.setattr(action, "_may_look", lambda _: False)

    shown = as_json(sealift, "census", "show")
    assert (shown["names"], shown["fault"]) == (1, None)
    for words in (("import", tmp_path / "names.txt"), ("forget", "--reason", "x")):
        ended = sealift("census", *words, *AS)
        assert ended.code == PrivilegeError.exit_code
        assert "as root" in ended.err
