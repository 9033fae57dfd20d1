"""A name means a version that this box can run: what was received and not installed is not known yet."""

from pathlib import Path

from appliance.actions.registering import register_what_is_installed
from appliance.audit.memory import MemoryLedger
from appliance.config import Config, PlacesSection
from appliance.install.releases import InstalledRelease, InstalledReleases
from appliance.registry import catalog
from appliance.state.database import open_state
from media.clock import SystemClock
from tests.support.versions import store_version


def known(root: Path, *installed: int) -> list[int]:
    config = Config(site="s", places=PlacesSection(root=str(root)))
    for serial in (1, 2):
        store_version(config, serial=serial, weights=f"weights {serial}".encode())
    for serial in installed:
        (config.at.releases / str(serial)).mkdir(parents=True)
        InstalledReleases(config.at).write(
            InstalledRelease(serial=serial, release=f"r{serial}", environments={}, host_files="0" * 64)
        )
    ledger, state = MemoryLedger(SystemClock()), open_state(config.at)
    register_what_is_installed(config, ledger, state)
    with state.connect() as session:
        found = sorted(one.serial for one in catalog.versions(session))
    state.dispose()
    return found


def test_versions_of_a_release_that_is_not_installed_are_not_known(tmp_path: Path) -> None:
    assert known(tmp_path, 1) == [1]


def test_where_nothing_is_installed_every_version_is_known(tmp_path: Path) -> None:
    assert known(tmp_path) == [1, 2]


def test_every_installed_release_counts(tmp_path: Path) -> None:
    assert known(tmp_path, 1, 2) == [1, 2]
