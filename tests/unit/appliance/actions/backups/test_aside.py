"""What restores put aside: named with its age and what removes its secrets, for as long as any lie there."""

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from appliance.actions.backups import aside, erasures
from appliance.actions.findings import Finding
from appliance.keys.files import create_missing
from appliance.places import Places
from media.clock import FixedClock
from tests.support.receiving import NOW


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places(root=tmp_path, run=tmp_path / "run")
    made.state.mkdir(parents=True)
    return made


def put_aside(places: Places, *, days: int = 3) -> Path:
    name = (NOW - timedelta(days=days)).strftime("before-restore-%Y%m%dT%H%M%SZ")
    folder = places.state / name
    create_missing(folder / "keys")
    (folder / "promoter").mkdir()
    (folder / "promoter/passwords.json").write_text("{}")
    (folder / "promoter/people.json").write_text("{}")
    return folder


def found(places: Places, *gone: str) -> list[Finding]:
    return list(aside.findings(places, clock=FixedClock(at=NOW), gone=gone))


def test_a_folder_is_named_with_its_age_until_its_secrets_are_gone(places: Places) -> None:
    assert found(places) == []
    folder = put_aside(places)

    [told] = found(places)

    assert (told.is_good, told.text) == (None, f"{folder.name}, 3 days old, holds 13 keys and other secrets")
    command = told.fix.partition("as root: ")[2].replace("/var/lib/sealift", str(places.state))
    subprocess.run(["sh", "-c", command], check=True)
    assert found(places) == []
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["people.json"]


def test_a_key_whose_destruction_is_recorded_and_that_lies_there_is_a_fault(places: Places) -> None:
    folder = put_aside(places)

    [told] = found(places, erasures.digest((folder / "keys/phi-map.v1").read_bytes()))

    assert told.is_good is False
    assert "of 1 of them the ledger records that they are destroyed" in told.text


def test_what_a_killed_restore_left_is_named_and_what_is_empty_or_a_link_is_not(places: Places, tmp_path: Path) -> None:
    create_missing(places.state / ".restoring/etc/sealift/keys")
    (places.state / "before-restore-20261101T080000Z/ledger").mkdir(parents=True)
    (places.state / "before-restore-20261102T080000Z").symlink_to(tmp_path)

    [told] = found(places)

    assert told.text == ".restoring, left by a restore that was cut off, holds 12 keys and other secrets"
