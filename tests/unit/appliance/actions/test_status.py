"""The status of an appliance on which parts are absent, and of one with a release installed."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.actions.status import status
from appliance.config import Config, PlacesSection, ServiceSection
from appliance.install.releases import InstalledRelease, InstalledReleases
from media.clock import FixedClock
from tests.support.installable import places_below, small_release, store_release
from tests.support.supervisor import FakeSupervisor

CLOCK = FixedClock(at=datetime(2026, 11, 20, tzinfo=UTC))
ENGINE = f"sealift-engine-production@{'a' * 12}.service"


def config(root: Path, *, tls: bool = False) -> Config:
    return Config(site="s", places=PlacesSection(root=str(root)), service=ServiceSection(tls=tls))


def test_an_empty_folder_has_a_status_and_no_failure(tmp_path: Path) -> None:
    found = status(config(tmp_path), clock=CLOCK).to_json()

    assert found["release"]["text"] == "none installed, 0 stored"
    assert found["production"]["text"] == "nothing is promoted"
    assert (found["units"]["good"], found["ledger"]["good"]) == (False, False)
    assert "run-units" in found["units"]["fix"]
    assert found["egress"]["enforced"] is False


def test_an_installed_release_and_its_units_are_shown(tmp_path: Path) -> None:
    store_release(places_below(tmp_path), small_release())
    releases = InstalledReleases(places_below(tmp_path))
    releases.folder(1).mkdir(parents=True)
    releases.write(InstalledRelease(serial=1, release="r1", environments={}, host_files="0" * 64))
    releases.switch(1)
    supervisor = FakeSupervisor()
    supervisor.start("sealift-ledger.service")
    supervisor.start(ENGINE)
    supervisor.stop(ENGINE)

    found = status(config(tmp_path, tls=True), clock=CLOCK, supervisor=supervisor).to_json()

    assert found["release"]["text"] == "r1, serial 1, 1 stored"
    assert found["units"]["text"] == f"1 of 2 run; not: {ENGINE}"
    assert found["addresses"]["gateway"] == "https://sealift.internal"


@pytest.mark.parametrize("resting", ["sealift-scrub.service", "sealift-settle.service", "sealift-standby.service"])
def test_a_service_that_a_timer_a_boot_or_a_pair_starts_may_rest_but_not_fail(tmp_path: Path, resting: str) -> None:
    supervisor = FakeSupervisor()
    supervisor.start("sealift-ledger.service")
    supervisor.start(resting)
    supervisor.stop(resting)

    found = status(config(tmp_path), clock=CLOCK, supervisor=supervisor).to_json()

    assert found["units"]["text"] == "1 of 1 run"
    assert (found["store"]["good"], found["store"]["text"]) == (None, "nothing is stored")
