"""What the doctor says helps where a token lacks keys: it depends on which, and on whether the box is in use.

Key files stand for the token: both are asked by name for versions. tests/interop/test_token_services.py asks one.
"""

import grp
import os
from pathlib import Path

import pytest

from appliance.actions import doctor_services, doctor_token
from appliance.actions.findings import Finding
from appliance.config import Config, KeysSection, PlacesSection
from appliance.keys.files import FileKeys, create_missing
from appliance.keys.opening import PIN


@pytest.fixture
def config(tmp_path: Path) -> Config:
    keys = KeysSection(provider="token", module="/usr/lib/vendor.so", token="ward-7")
    made = Config(site="s", environment="demo", places=PlacesSection(root=str(tmp_path)), keys=keys)
    made.at.key_files.mkdir(parents=True, mode=0o700)
    (made.at.key_files / PIN).write_text("1234")
    return made


def found(config: Config, *lacking: str) -> Finding:
    folder = config.at.state / "stands-for-the-token"
    create_missing(folder)
    for name in lacking:
        (folder / f"{name}.v1").unlink()
    return doctor_token.finding(config, FileKeys(folder))


def test_keys_that_are_new_on_a_box_in_use_are_made_without_another_install(config: Config) -> None:
    config.at.current.mkdir(parents=True)

    said = found(config, "retention", "test-phi-map")

    assert said.is_good is False
    assert "does not hold retention, test-phi-map" in said.text
    assert "sealift box-keys complete" in said.fix
    assert "sealift install" not in said.fix
    assert said.why


def test_the_key_that_signs_comes_back_by_its_token_or_a_restore_and_is_not_made(config: Config) -> None:
    config.at.current.mkdir(parents=True)

    said = found(config, "ledger-checkpoint", "retention")

    assert "sealift backup restore FILE --replace" in said.fix
    assert "complete" not in said.fix
    assert "the ledger refuses" in said.why


def test_before_the_first_install_the_install_makes_them(config: Config) -> None:
    said = found(config, "ledger-checkpoint", "retention")

    assert "sealift install" in said.fix


def test_a_token_that_holds_every_key_is_good(config: Config) -> None:
    assert found(config).is_good


def test_without_a_pin_the_pin_is_what_lacks_and_nothing_is_said_of_key_files(config: Config) -> None:
    (config.at.key_files / PIN).unlink()
    config.at.key_files.rmdir()

    bad = [each for each in doctor_services.keys(config) if each.is_good is False]

    assert [each.fix for each in bad] == ["as root: `sealift box-keys pin`"]


def test_a_version_whose_file_services_may_not_read_is_found_as_they_would_not_see_it(
    config: Config, tmp_path: Path
) -> None:
    group = grp.getgrgid(os.getegid()).gr_name
    folder = tmp_path / "tokens"
    (own := folder / "1").mkdir(parents=True)
    (own / "b.object").touch(0o600)
    (own / "b.object").chmod(0o660)
    (own / "a.object").touch(0o600)
    keys = config.keys.model_copy(update={"folder": str(folder), "group": group})
    shared = config.model_copy(update={"keys": keys})

    shut = found(shared)
    (own / "a.object").chmod(0o660)
    opened = found(shared)
    unknown = found(config.model_copy(update={"keys": keys.model_copy(update={"group": "sl-nobody-is"})}))

    assert (shut.is_good, shut.text) == (False, f"ward-7 holds every key; 1 of its files are not for the group {group}")
    assert f"chgrp -R {group} {own} " in shut.fix
    assert opened.is_good
    assert (unknown.is_good, unknown.text) == (False, "ward-7 holds every key; there is no group sl-nobody-is")
