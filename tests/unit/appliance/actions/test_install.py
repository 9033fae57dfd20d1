"""Installing: below a folder, on a box whose host is a stand-in, again, and going back."""

import shutil
from pathlib import Path

import pytest

from appliance.actions.install import Host, Installer, open_host
from appliance.audit.spool import Spool
from appliance.config import Config, PlacesSection
from appliance.errors import InstallError, UnknownReleaseError
from appliance.install.playbook import Play, PlayResult
from appliance.install.releases import InstalledRelease, InstalledReleases
from media.clock import SystemClock
from tests.support.installable import places_below, small_release, store_release


class FakeHost:
    """Remembers plays; unhealthy for the serials in `sick`."""

    def __init__(self, *, changes: int = 5, sick: frozenset[int] = frozenset()) -> None:
        self.changes, self.sick = changes, sick
        self.plays: list[tuple[str, int]] = []

    def apply(self, play: Play, ansible: Path) -> PlayResult:
        self.plays.append(("apply", play.serial))
        return PlayResult(changed=self.changes, text="")

    def preview(self, play: Play, ansible: Path) -> PlayResult:
        assert (play.source / "systemd/sealift.target").is_file()
        self.plays.append(("preview", play.serial))
        return PlayResult(changed=self.changes, text="--- before\n+++ after")

    def require_healthy(self) -> None:
        if self.plays[-1][1] in self.sick:
            raise InstallError(what="the services do not answer", why="the test says so")


@pytest.fixture(scope="module")
def installed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of an appliance whose release 1 was installed once; tests work on copies."""
    root = tmp_path_factory.mktemp("once")
    store_release(places_below(root), small_release())
    installer(root).install()
    return root


@pytest.fixture(scope="module")
def box_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `installed_once`, on a box."""
    root = tmp_path_factory.mktemp("box")
    store_release(places_below(root), small_release())
    installer(root, FakeHost()).install()
    return root


@pytest.fixture
def root(installed_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(installed_once, tmp_path / "r", symlinks=True))


@pytest.fixture
def box(box_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(box_once, tmp_path / "b", symlinks=True))


def installer(root: Path, host: Host | None = None) -> Installer:
    site_file = root / "given.toml"
    site_file.write_text('site = "s"\n')
    return Installer(
        config=Config(site="s", places=PlacesSection(root=str(root))),
        config_file=site_file,
        clock=SystemClock(),
        progress=lambda _: None,
        host=host,
    )


def add_release(root: Path, serial: int) -> None:
    """Store a further release and declare it built, because building is tested elsewhere."""
    stored = store_release(places_below(root), small_release(), serial=serial)
    releases = InstalledReleases(places_below(root))
    shutil.copytree(releases.folder(1), releases.folder(serial), symlinks=True)
    first = releases.load(1)
    assert first is not None
    releases.write(
        InstalledRelease(
            serial=serial,
            release=stored.release,
            environments=first.environments,
            host_files=first.host_files,
        )
    )


def spooled(root: Path) -> int:
    return len(Spool(root / "var/lib/sealift/spool").pending())


def test_a_release_is_installed_below_a_folder_without_touching_the_host(installed_once: Path) -> None:
    places = places_below(installed_once)

    assert InstalledReleases(places).require_current().serial == 1
    assert places.config_file.read_text() == 'site = "s"\n'
    assert len(list(places.key_files.iterdir())) > 0
    assert (places.registry / "state.db").exists()
    assert spooled(installed_once) == 1


def test_installing_again_changes_nothing_and_says_so(root: Path) -> None:
    facts = installer(root).install()

    assert not facts.changed
    assert facts.host == "not changed: there is no Ansible without root"
    assert spooled(root) == 1


def test_a_box_is_changed_by_the_playbook_and_a_second_time_not_at_all(box: Path) -> None:
    first = installer(box, FakeHost()).install()
    second = installer(box, FakeHost(changes=0)).install()

    assert (first.changed, first.host) == (True, "changed")
    assert (second.changed, second.host) == (False, "unchanged")
    assert sorted(second.environments) == ["engine-llama-cpp", "host", "server"]


def test_a_release_that_does_not_answer_goes_back_by_itself(box: Path) -> None:
    add_release(box, 2)
    host = FakeHost(sick=frozenset({2}))

    with pytest.raises(InstallError):
        installer(box, host).install()

    assert InstalledReleases(places_below(box)).require_current().serial == 1
    assert host.plays == [("apply", 2), ("apply", 1)]


def test_a_first_release_that_does_not_answer_leaves_none_in_use(box: Path) -> None:
    places_below(box).current.unlink()
    host = FakeHost(sick=frozenset({1}))

    with pytest.raises(InstallError):
        installer(box, host).install()

    assert InstalledReleases(places_below(box)).current() is None


def test_the_newest_stored_release_is_meant_when_none_is_named(root: Path) -> None:
    add_release(root, 2)

    facts = installer(root).install()
    back = installer(root).install(1)

    assert (facts.serial, facts.previous) == (2, 1)
    assert (back.serial, back.previous) == (1, 2)


def test_a_preview_changes_nothing(root: Path) -> None:
    add_release(root, 2)
    host = FakeHost()

    facts = installer(root, host).preview()

    assert facts.difference == "--- before\n+++ after"
    assert (facts.serial, facts.changed, facts.host) == (2, True, "would change")
    assert host.plays == [("preview", 2)]
    assert InstalledReleases(places_below(root)).require_current().serial == 1


def test_a_preview_below_a_folder_compares_serials(root: Path) -> None:
    assert not installer(root).preview().changed


def test_an_empty_store_names_the_command_that_fills_it(tmp_path: Path) -> None:
    with pytest.raises(UnknownReleaseError) as caught:
        installer(tmp_path).install()

    assert "sealift receive" in caught.value.fix


def test_below_a_folder_there_is_no_host(tmp_path: Path) -> None:
    assert open_host(Config(site="s", places=PlacesSection(root=str(tmp_path))), clock=SystemClock()) is None
