"""What the doctor finds on a machine of a test's making."""

import shutil
from collections import namedtuple
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.actions.doctor import doctor
from appliance.config import Config, PlacesSection, ServiceSection
from appliance.keys.files import create_missing
from appliance.modelaliases import ModelsSection
from media.clock import FixedClock
from tests.support.versions import store_version

NOW = FixedClock(at=datetime(2026, 11, 20, tzinfo=UTC))


def config(root: Path, *, host: str = "127.0.0.1", run: str = "/run/s") -> Config:
    return Config(
        site="s",
        environment="demo",
        places=PlacesSection(root=str(root), run=run),
        service=ServiceSection(host=host),
    )


def verdicts(given: Config, clock: FixedClock = NOW) -> dict[str, bool | None]:
    return {finding.name: finding.is_good for finding in doctor(given, clock=clock)[0]}


def test_a_good_machine_has_nothing_wrong_but_what_this_test_machine_lacks(tmp_path: Path) -> None:
    create_missing(tmp_path / "etc/sealift/keys")

    found = verdicts(config(tmp_path))

    assert [name for name, is_good in found.items() if is_good is False] == []
    assert found["backup"] is None  # nobody has chosen a place yet
    assert {"keys", "clock", "memory", "socket paths", "bind address", "file systems"} <= set(found)


def test_machine_facts_are_what_a_sender_asks_for(tmp_path: Path) -> None:
    _, machine = doctor(config(tmp_path), clock=NOW)

    assert set(machine.to_json()) == {"profile", "python", "platform", "glibc", "cpu_flags", "gpus", "driver"}


def test_a_full_disk_a_wide_key_a_long_path_and_an_open_address_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_missing(tmp_path / "etc/sealift/keys")
    (tmp_path / "etc/sealift/keys/session.v1").chmod(0o644)
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - the shape of shutil's answer
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 0))

    found = verdicts(config(tmp_path, host="0.0.0.0", run="/" + "x" * 90))  # noqa: S104 - what is to be found

    assert {name for name, is_good in found.items() if is_good is False} == {
        *["room for state", "room for releases", "keys", "socket paths", "bind address"]
    }


def test_a_clock_before_the_program_was_made_is_found(tmp_path: Path) -> None:
    found = verdicts(config(tmp_path), FixedClock(at=datetime(2010, 1, 1, tzinfo=UTC)))

    assert not found["clock"]


def test_production_without_tls_is_found(tmp_path: Path) -> None:
    given = config(tmp_path).model_copy(update={"environment": "production"})

    assert not verdicts(given)["tls"]


def test_a_received_model_that_has_one_of_the_sites_own_names_is_told(tmp_path: Path) -> None:
    given = config(tmp_path)
    _, descriptor = store_version(given)

    def named(alias: str) -> Config:
        return given.model_copy(update={"models": ModelsSection(aliases={alias: "production"})})

    assert [verdicts(one).get("model names", "unsaid") for one in (given, named("other"), named(descriptor.name))] == [
        "unsaid",
        True,
        None,
    ]
    (told,) = (one for one in doctor(named(descriptor.name), clock=NOW)[0] if one.name == "model names")
    assert f"{descriptor.name} in models.aliases" in told.text
