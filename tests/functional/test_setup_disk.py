"""`sealift setup` and the disk of backups: asked and from a file, to its end, over a real ledger and promoter.

The release is put into place by an installer of a few lines; the disks are said by lsblk.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from appliance import config as configuration
from appliance.actions.backups import disk, fstab
from appliance.actions.backups.offered import Devices
from appliance.actions.backups.seconddisk import DiskFacts, State
from appliance.actions.installfacts import InstallFacts
from appliance.audit.rights import ACTIONS
from appliance.audit.socket_ledger import SocketLedger
from appliance.cli import backup, setup, setup_disk
from appliance.errors import ConfigError
from tests.support import setting_up
from tests.support.installable import small_release, store_release
from tests.support.medium import make_medium
from tests.support.running_site import RunningSite, running_site
from tests.support.setting_up import done
from tests.support.usbdisks import EMPTY, SYSTEM, Host
from tests.support.versions import short_folder, version_files

pytestmark = pytest.mark.slow  # whole sites and processes, a second and more each

ANSWERS = setting_up.ANSWERS.replace("seconds = 5", "seconds = 0")


class Placed:
    """An installer that finds the release in place."""

    def __init__(self, **_: Any) -> None:
        """Whatever it is of."""

    def preview(self, serial: int | None = None) -> InstallFacts:
        """Say that nothing is left to do."""
        return InstallFacts(
            serial=serial or 1, release="r1", previous=None, environments={}, changed=False, host="", difference=""
        )

    install = preview

    def settle(self) -> None:
        """Nothing was cut off."""


class Site:
    """A site whose `sealift setup` sees the disks of a test."""

    def __init__(self, running: RunningSite, host: Host, folder: Path) -> None:
        self.running = running
        self.host = host
        self.folder = str(folder / "disk")
        self.table = folder / "fstab"
        self.table.write_text("UUID=1-2 / ext4 defaults 0 1\n")
        mounts = folder / "mountinfo"
        mounts.write_text("22 1 254:1 / / rw - ext4 /dev/vda1 rw\n")
        self.devices = Devices(tool=host, table=self.table, mounts=mounts, links=folder / "by-id")
        self.earlier = len(self._records())

    def typed(self, *words: str, lines: list[str] | None = None, as_json: bool = False) -> Result:
        config_file = self.running.config.at.config_file
        return setting_up.typed(config_file, (setup, backup), words, lines or [], as_json=as_json)

    def from_file(self, *words: str, section: str = "") -> Result:
        path = self.running.root / "answers.toml"
        path.write_text(f'{ANSWERS}[backup]\nfolder = "{self.folder}"\n{section}')
        return self.typed("setup", "--answers", str(path), *words, as_json=True)

    def asked(self, *chosen: str, after: tuple[str, ...] = ("y",)) -> Result:
        kept = self.running.config.at.state / "setup/answers.toml"
        kept.parent.mkdir(parents=True, exist_ok=True)
        if not kept.exists():
            kept.write_text("[capacity]\nseconds = 0\n")
        return self.typed("setup", lines=[*setting_up.TYPED, self.folder, *chosen, "none", *after])

    def records(self) -> list[int]:
        """Return the records of disks that were prepared in this test."""
        return self._records()[self.earlier :]

    def _records(self) -> list[int]:
        ledger = SocketLedger(self.running.config.at.socket(ACTIONS))
        try:
            return sorted(leaf.sequence for leaf in ledger.find(kind=disk.PREPARED, limit=50))
        finally:
            ledger.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    medium = make_medium(tmp_path_factory.mktemp("m") / "m", serial=1, files=version_files())
    with short_folder() as root, running_site(root, medium) as made:
        store_release(made.config.at, small_release())
        yield made


@pytest.fixture
def site(running: RunningSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Site]:
    """The site as it was before any setup, with a disk in its shop's state; its ledger goes on."""
    site_file = running.config.at.config_file
    before = site_file.read_bytes()
    made = Site(running, Host(SYSTEM, fstype="vfat", label="MAKER"), tmp_path)
    monkeypatch.setattr(setup, "Installer", Placed)
    monkeypatch.setattr(setup_disk, "_devices", lambda _: made.devices)
    yield made
    site_file.write_bytes(before)
    shutil.rmtree(running.config.at.state / "setup", ignore_errors=True)


def test_a_person_sees_the_disks_chooses_one_types_its_name_and_it_is_prepared(site: Site) -> None:
    result = site.asked("7", "again", "1", after=("y", "sdb"))

    assert result.exit_code == 0, (result.exception, result.output)
    said = " ".join(result.stderr.split())
    assert "1 sdb: Portable X1, 1000.0 GB, bears vfat (MAKER)" in said
    assert "vda: Inside S0, 200.0 GB, bears ext4; cannot be used: it is no disk that is plugged in by USB" in said
    assert "7 is none of these disks" in said
    preview = said[said.index("What will be done") :]
    assert "bears vfat (MAKER) /etc/fstab gets a line" in preview
    assert preview.index("all on it is lost") < preview.index("Do all this now?") < preview.index("Type sdb to erase")
    assert f"it is mounted at {site.folder}, record {site.records()[0]}" in result.stdout
    assert "once one thing is done" in result.stdout
    assert len(fstab.sources(site.table.read_text(), site.folder)) == 1
    assert site.host.changed.count("mkfs.ext4") == 1

    again = site.asked("", after=("y",))  # what was chosen is offered, and nobody asks to erase it

    assert again.exit_code == 0, (again.exception, again.output)
    assert "Which disk is prepared for them [X1]" in again.stderr
    assert "prepared already, nothing on it is lost" in " ".join(again.stderr.split())
    assert "Type sdb" not in again.stderr
    assert site.host.changed.count("mkfs.ext4") == 1


@pytest.mark.parametrize(
    ("chosen", "after", "why"), [(["later"], ("y",), "nobody chose one"), (["1"], ("y", "sda"), "its name was not")]
)
def test_later_or_a_name_that_is_not_typed_leaves_the_disk_and_sets_the_box_up(
    site: Site, chosen: list[str], after: tuple[str, ...], why: str
) -> None:
    result = site.asked(*chosen, after=after)

    assert result.exit_code == 0, (result.exception, result.output)
    assert "One-time codes" in result.stdout
    assert f"No disk for backups: {why}" in result.stdout
    assert "`sealift backup disk" in result.stdout
    assert site.host.changed == []


def test_where_no_disk_is_there_setup_says_so_and_goes_on(site: Site) -> None:
    site.host.device = {}

    result = site.asked("")

    assert result.exit_code == 0, (result.exception, result.output)
    assert "no disk that could be used is plugged in" in result.stderr
    assert "One-time codes" in result.stdout
    assert "`sealift backup disk DEVICE`" in result.stdout


def test_a_file_names_the_disk_allows_its_erasure_and_the_second_run_erases_nothing(site: Site) -> None:
    section = 'disk = "X1"\nerase = true\n'
    plan = done(site.from_file("--dry-run", section=section))["plan"]
    assert (plan["backup_disk"]["state"], plan["backup_disk"]["device"]) == ("planned", "sdb")
    assert plan["backup_disk"]["preparation"]["bears"] == ["vfat"]
    assert plan["steps"].index("install") < plan["steps"].index("backup disk") < plan["steps"].index("codes")
    assert site.host.changed == []

    first = done(site.from_file(section=section))["backup_disk"]
    again = done(site.from_file(section=section))

    assert (first["state"], [first["sequence"]]) == ("prepared", site.records())
    assert (again["backup_disk"]["state"], site.host.changed.count("mkfs.ext4")) == ("stands", 1)
    kept = json.loads((site.running.config.at.state / "setup/summary.json").read_text())
    assert kept["backup_disk"]["state"] == "stands"
    assert "X1" not in site.running.config.at.config_file.read_text()


def test_a_file_that_does_not_allow_it_is_refused_before_anything_is_changed(site: Site) -> None:
    before = site.running.config.at.config_file.read_bytes()

    for section in ('disk = "X1"\n', 'disk = "/dev/sdb"\nerase = true\n'):
        refused = site.from_file(section=section)
        assert isinstance(refused.exception, ConfigError)
        assert refused.exception.what.startswith("backup.")

    assert (site.host.changed, site.running.config.at.config_file.read_bytes()) == ([], before)


@pytest.mark.parametrize(
    ("device", "breaks", "state", "fix"),
    [
        ({}, "", "absent", "plug it in"),
        ({**EMPTY, "mountpoints": ["/run/sealift/media/sdb"]}, "", "refused", "sealift media eject sdb"),
        (EMPTY, "mkfs.ext4", "failed", "`sealift backup disk /dev/sdb --erase`"),
    ],
)
def test_a_disk_that_cannot_be_prepared_leaves_a_box_that_is_set_up_and_what_to_do(
    site: Site, device: dict[str, Any], breaks: str, state: str, fix: str
) -> None:
    site.host.device, site.host.breaks = device, breaks

    told = done(site.from_file(section='disk = "X1"\nerase = true\n'))

    assert list(told["codes"]) == ["Iris Mora", "Omar Haddad"]
    assert configuration.load(site.running.config.at.config_file).backup.folder == site.folder
    assert (told["backup_disk"]["state"], fix in told["backup_disk"]["fix"]) == (state, True), told["backup_disk"]
    assert told["backup_disk"]["why"] or told["backup_disk"]["what"]
    assert site.records() == []


def test_what_failed_is_finished_by_the_command_that_setup_names(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.host.breaks = "mkfs.ext4"
    failed = site.asked("1", after=("y", "sdb"))
    assert "NO DISK FOR BACKUPS: it broke" in failed.stdout
    assert "One-time codes" in failed.stdout
    assert "`sealift backup disk /dev/sdb --erase`" in failed.stdout
    site.host.breaks = ""
    for name in ("plan", "prepare", "finish"):
        kept = getattr(disk, name).__kwdefaults__ | {"tool": site.host, "table": site.table}
        monkeypatch.setattr(getattr(disk, name), "__kwdefaults__", kept)

    done = site.typed("backup", "disk", "/dev/sdb", "--erase", lines=["sdb"])

    assert done.exit_code == 0, (done.exception, done.output)
    assert len(site.records()) == 1
    assert len(fstab.sources(site.table.read_text(), site.folder)) == 1


def test_what_backups_still_need_is_told_and_nothing_where_nothing_is_left() -> None:
    told = {
        (state, is_chosen): "\n".join(
            setup_disk.summary_lines(DiskFacts(state=state, why="w"), "/media/b", is_chosen=is_chosen)
        )
        for state in (State.NONE, State.LATER)
        for is_chosen in (False, True)
    }

    assert "once one thing is done" in told[State.NONE, False]
    assert "once two things are done" in told[State.LATER, False]
    assert "once one thing is done" in told[State.LATER, True]
    assert "Backups go to /media/b (docs" in told[State.NONE, True]
    assert ["backup recipient" in one for one in told.values()] == [True, False, True, False]
