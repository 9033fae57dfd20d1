"""Installing: below a folder, on a box whose host is a stand-in, again, and going back."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance import config as configuration
from appliance.actions import doctor_machine, hostplan, installrecord
from appliance.actions.findings import Finding
from appliance.actions.host import Host, open_host
from appliance.actions.install import Installer
from appliance.actions.status import status
from appliance.audit.spool import Spool
from appliance.config import Config, PlacesSection
from appliance.errors import HostChangeError, InstallError, PreflightError, StoreWriteError, UnknownReleaseError
from appliance.install import additions, plans
from appliance.install.account import PlayResult
from appliance.install.additions import Needs
from appliance.install.maintainer import Package
from appliance.install.plans import Plan
from appliance.install.playbook import Play
from appliance.install.releases import InstalledRelease, InstalledReleases
from appliance.install.trial import Trials
from media.clock import FixedClock, SystemClock
from tests.support.hostplans import make_plan
from tests.support.installable import places_below, small_release, store_release
from tests.support.promotion import Site, open_site, site_config
from tests.support.signatories import signatories

pytestmark = pytest.mark.slow  # whole commands and processes, seconds each


class FakeHost:
    """Remembers plays; unhealthy for the serials in `sick`."""

    def __init__(
        self, *, changes: int = 5, sick: frozenset[int] = frozenset(), packages: tuple[Package, ...] = ()
    ) -> None:
        self.changes, self.sick, self.found = changes, sick, packages
        self.plays: list[tuple[str, int]] = []
        self.needs: list[Needs] = []
        self.ansibles: list[Path] = []
        self.restarted: list[str] = []
        self.account = ""
        self.made: Plan | None = None

    def apply(self, play: Play, ansible: Path) -> PlayResult:
        self.plays.append(("apply", play.serial))
        self.needs.append(play.needs)
        self.ansibles.append(ansible)
        return PlayResult(changed=self.changes, text=self.account)

    def preview(self, play: Play, ansible: Path) -> PlayResult:
        assert (play.source / "systemd/sealift.target").is_file()
        self.plays.append(("preview", play.serial))
        self.needs.append(play.needs)
        return PlayResult(changed=self.changes, text="--- before\n+++ after", packages=self.found)

    def packages(self, play: Play) -> tuple[Package, ...]:
        assert (play.source / "debs/Packages").is_file()
        return self.found

    def planned(self, serial: int) -> Plan | None:
        if self.made is not None:
            self.plays.append(("planned", serial))
        return self.made

    def restart(self, which: str) -> None:
        self.restarted.append(which)

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


def test_state_in_the_network_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_release(places_below(tmp_path), small_release())
    far = Finding(name="file systems", is_good=False, text="state lies on nfs4", why="locks", fix="a local disk")
    monkeypatch.setattr(doctor_machine, "file_systems", lambda *_: iter([far]))

    with pytest.raises(PreflightError, match="state lies on nfs4"):
        installer(tmp_path).install()

    at = installer(tmp_path).config.at
    assert not at.key_files.exists() or not list(at.key_files.iterdir())
    assert InstalledReleases(at).current() is None


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


def add_release(root: Path, serial: int, **host_files: bytes) -> None:
    """Store a further release and declare it built, because building is tested elsewhere.

    Args:
        root: Of the appliance.
        serial: Of the release.
        host_files: Others of its host files than the first one has.
    """
    changed = {f"data/host/{name}": content for name, content in host_files.items()}
    stored = store_release(places_below(root), small_release() | changed, serial=serial)
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


def bodies(root: Path, kind: str) -> list[dict[str, Any]]:
    """The bodies of one kind that wait for the ledger."""
    waiting = [json.loads(path.read_bytes()) for path in Spool(root / "var/lib/sealift/spool").pending()]
    return [fact["body"] for fact in waiting if fact["kind"] == kind]


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


def people_of(box: Path) -> Site:
    """Enrol two people at a box."""
    return open_site(box)


def at_site(box: Path, host: Host) -> Installer:
    """The installer whose clock is that of `people_of` and whose site is the people's."""
    return replace(
        installer(box, host), config=site_config(box), clock=FixedClock(datetime(2026, 11, 20, 8, 0, tzinfo=UTC))
    )


def approved(site: Site, plan: Plan) -> str:
    """Let two people approve a plan; return the digest of their statement."""
    ana, ben, *_ = signatories()
    request = site.client.request_host(
        plan_digest=plan.digest, serial=plan.serial, meaning="newer units", requested_by=ana.id
    )
    for person in (ana, ben):
        site.client.approve_host(request.statement.sha256, person.sign(request.statement.to_bytes()))
    return request.statement.sha256


def by_unit(box: Path, serial: int, **changes: Any) -> FakeHost:
    """A host whose unit makes the plan that it makes, but for these fields."""
    host = FakeHost()
    host.made = replace(at_site(box, FakeHost()).plan(serial), **changes)
    return host


def test_once_people_are_enrolled_a_change_of_the_host_waits_for_two_of_them(box: Path) -> None:
    people_of(box)
    add_release(box, 2)
    host = FakeHost()

    with pytest.raises(HostChangeError) as caught:
        at_site(box, host).install(2)

    assert caught.value.exit_code == 59
    assert host.plays == []  # nothing of a release that nobody approved is carried out, not even to look
    assert InstalledReleases(places_below(box)).require_current().serial == 1


def test_whoever_takes_the_list_of_people_away_installs_nothing_by_it(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = people_of(box)
    add_release(box, 2)
    (site.config.at.promoter / "people.json").unlink()
    monkeypatch.setattr(site.ledger, "close", lambda: None, raising=False)
    monkeypatch.setattr(hostplan, "open_ledger", lambda *_, **__: site.ledger)
    host = FakeHost()

    with pytest.raises(HostChangeError, match="two people have not approved"):
        at_site(box, host).install(2)

    assert host.plays == []
    assert InstalledReleases(places_below(box)).require_current().serial == 1


def test_what_two_people_approved_is_installed_and_the_record_names_their_statement(box: Path) -> None:
    site = people_of(box)
    add_release(box, 2)
    host = FakeHost()
    statement = approved(site, at_site(box, host).plan(2))

    facts = at_site(box, host).install(2)

    assert (facts.serial, facts.changed) == (2, True)
    waiting = [recorded.read_bytes() for recorded in Spool(box / "var/lib/sealift/spool").pending()]
    assert any(f'"host_approval":"{statement}"'.encode() in one for one in waiting)


def test_approvals_of_another_difference_do_not_count(box: Path) -> None:
    site = people_of(box)
    add_release(box, 2)
    approved(site, at_site(box, FakeHost()).plan(2))

    for changed in (FakeHost(changes=6), FakeHost(packages=make_plan().packages)):
        with pytest.raises(HostChangeError):
            at_site(box, changed).install(2)
        assert [what for what, _ in changed.plays] == ["preview"]
    (box / "etc/sealift/sealift.toml").write_text('site = "demo"\n# another setting\n')
    host = FakeHost()
    with pytest.raises(HostChangeError, match="not what lies here now"):
        at_site(box, host).install(2)
    assert host.plays == []


def test_the_plan_of_an_install_is_made_by_its_unit_and_nothing_is_checked_as_root(box: Path) -> None:
    site = people_of(box)
    add_release(box, 2)
    host = by_unit(box, 2)
    assert host.made is not None
    approved(site, host.made)

    facts = at_site(box, host).install(2)

    assert (facts.serial, facts.changed) == (2, True)
    assert host.plays == [("planned", 2), ("apply", 2)]


@pytest.mark.parametrize(
    "changes",
    [
        {"host_files": "c" * 64},
        {"settings": "c" * 64},
        {"previous": 7},
        {"site": "another"},
        {"packages": make_plan().packages},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_the_unit_says_counts_only_as_far_as_root_sees_the_same(box: Path, changes: dict[str, Any]) -> None:
    """Scenario: a playbook that nobody approved took over the unit that makes plans, and bends what it leaves."""
    site = people_of(box)
    add_release(box, 2)
    approved(site, at_site(box, FakeHost()).plan(2))
    host = by_unit(box, 2, **changes)

    with pytest.raises(HostChangeError):
        at_site(box, host).install(2)

    assert [what for what, _ in host.plays] == ["planned"]
    assert InstalledReleases(places_below(box)).require_current().serial == 1


def test_a_plan_shows_what_changes_in_units_and_playbooks(box: Path) -> None:
    """Check mode names files that would be copied, and nothing in them; commands it does not name at all."""
    people_of(box)
    files = {
        "systemd/sealift.target": b"[Unit]\nOnFailure=sealift-x.service\n",
        "ansible/roles/units/tasks/main.yml": b"---\n- ansible.builtin.command: /bin/true \xe2\x80\xae\n",
        "systemd/sealift-x.service": b"[Service]\nUser=root\n",
    }
    add_release(box, 2, **files)

    plan = at_site(box, FakeHost()).plan(2)

    assert plan.difference.startswith("FILES THAT CHANGE THE HOST\n--- before/ansible/roles/units/tasks/main.yml\n")
    for line in (
        *("+- ansible.builtin.command: /bin/true <U+202E>", "+OnFailure=sealift-x.service"),
        *("--- nothing", "+++ after/systemd/sealift-x.service", "+User=root"),
    ):
        assert line in plan.difference.splitlines(), line
    assert plan.difference.endswith("--- before\n+++ after")


def test_a_plan_of_the_unit_that_hides_what_changes_in_units_counts_for_nothing(box: Path) -> None:
    site = people_of(box)
    add_release(box, 2, **{"systemd/sealift.target": b"[Unit]\nOnFailure=sealift-x.service\n"})
    hidden = by_unit(box, 2, difference="--- before\n+++ after")
    assert hidden.made is not None
    plans.keep(places_below(box), hidden.made)
    approved(site, hidden.made)

    with pytest.raises(HostChangeError, match="does not show what changes in playbooks and units"):
        at_site(box, hidden).install(2)

    assert [what for what, _ in hidden.plays] == ["planned"]


def test_a_new_release_that_claims_to_change_nothing_needs_two_people_too(box: Path) -> None:
    people_of(box)
    add_release(box, 2)
    host = by_unit(box, 2, changed=0, difference="")

    with pytest.raises(HostChangeError):
        at_site(box, host).install(2)

    assert host.plays == []


def test_nothing_to_change_on_the_host_needs_nobody(box: Path) -> None:
    people_of(box)
    host = FakeHost(changes=0)

    facts = at_site(box, host).install(1)

    assert (facts.changed, host.plays) == (False, [("preview", 1), ("apply", 1)])


def test_a_plan_is_kept_for_people_and_changes_nothing_else(box: Path) -> None:
    host = FakeHost()

    plan = installer(box, host).plan()

    assert plans.read(places_below(box), plan.digest) == plan
    assert host.plays == [("preview", 1)]
    with pytest.raises(PreflightError):
        installer(box).plan()


def test_a_relay_that_nobody_vouches_for_is_refused_before_the_host_changes(box: Path) -> None:
    host = FakeHost()
    asks = installer(box, host)
    alerts = {"mail_relay": "10.0.0.25", "mail_to": ["duty@clinic.internal"], "mail_server": "relay.clinic.internal"}
    values = {**asks.config.model_dump(), "alerts": alerts, "monitoring": {"enabled": True}}

    with pytest.raises(PreflightError, match="nobody vouches for the mail relay"):
        replace(asks, config=Config.model_validate(values)).install()

    assert host.plays == []


def test_a_release_that_does_not_answer_goes_back_by_itself(box: Path) -> None:
    add_release(box, 2)
    host = FakeHost(sick=frozenset({2}))

    with pytest.raises(InstallError):
        installer(box, host).install()

    assert InstalledReleases(places_below(box)).require_current().serial == 1
    assert host.plays == [("apply", 2), ("apply", 1)]
    returned = Trials(places_below(box)).last_return()
    assert returned is not None
    assert (returned.serial, returned.back_to) == (2, 1)
    assert "do not answer" in returned.why
    assert bodies(box, "install.returned") == [returned.to_json()]


def test_the_next_release_is_installed_by_the_ansible_of_the_one_before(box: Path) -> None:
    add_release(box, 2)
    releases = InstalledReleases(places_below(box))
    for serial in (1, 2):
        (releases.folder(serial) / "host/bin").mkdir(parents=True, exist_ok=True)
        (releases.folder(serial) / "host/bin/ansible-playbook").touch()
    host = FakeHost()

    installer(box, host).install(2)

    assert [one.resolve() for one in host.ansibles] == [(releases.folder(1) / "host/bin/ansible-playbook").resolve()]


def test_units_keep_what_engines_here_need_where_a_release_goes_back(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(additions, "installed", lambda _: Needs(units=frozenset({"vllm"})))
    add_release(box, 2)
    host = FakeHost(sick=frozenset({2}))

    with pytest.raises(InstallError):
        installer(box, host).install()

    assert host.plays == [("apply", 2), ("apply", 1)]
    assert host.needs == [Needs(units=frozenset({"vllm"}))] * 2


def test_plan_and_install_demand_what_a_releases_engines_need(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = Needs(units=frozenset({"vllm"}), packages=frozenset({"libnuma1"}))
    monkeypatch.setattr(additions, "asked_for", lambda given: needs if "server" in given else Needs())
    add_release(box, 2)
    host = FakeHost()

    installer(box, host).preview(2)
    installer(box, host).install(2)

    assert host.plays == [("preview", 2), ("apply", 2)]
    assert host.needs == [needs, needs]


def test_a_good_install_ends_the_notice_that_the_box_went_back(box: Path) -> None:
    add_release(box, 2)
    with pytest.raises(InstallError):
        installer(box, FakeHost(sick=frozenset({2}))).install()

    installer(box, FakeHost()).install()

    assert InstalledReleases(places_below(box)).require_current().serial == 2
    assert Trials(places_below(box)).last_return() is None
    assert Trials(places_below(box)).pending() is None


class PowerFails(BaseException):
    """The machine goes off: nothing after it runs."""


class CutHost(FakeHost):
    """Loses power while the host is being changed for the serials in `sick`."""

    def apply(self, play: Play, ansible: Path) -> PlayResult:
        if play.serial in self.sick:
            raise PowerFails
        return super().apply(play, ansible)


def cut_off(box: Path, serial: int) -> None:
    with pytest.raises(PowerFails):
        installer(box, CutHost(sick=frozenset({serial}))).install(serial)


def test_the_site_file_goes_back_with_the_release_and_the_tried_one_is_kept(box: Path) -> None:
    add_release(box, 2)
    place = places_below(box).config_file
    good, tried = place.read_bytes(), f'site = "s"\n[places]\nroot = "{box}"\n[limits]\ninput_tokens = 7\n'.encode()
    place.write_bytes(tried)

    with pytest.raises(InstallError):
        installer(box, FakeHost(sick=frozenset({2}))).install()

    assert place.read_bytes() == good
    assert (place.parent / "sealift.toml.tried").read_bytes() == tried


TRIED = 'site = "s"\n[places]\nroot = "{}"\n[limits]\ninput_tokens = {}\n'


class PickyHost(FakeHost):
    """Its services answer with the site files of some limits alone."""

    well: tuple[int, ...] = ()

    def apply(self, play: Play, ansible: Path) -> PlayResult:
        self.tried = play.config.limits.input_tokens
        return super().apply(play, ansible)

    def require_healthy(self) -> None:
        if self.tried not in self.well:
            raise InstallError(what="the services do not answer", why="the test says so")


def with_limit(box: Path, tokens: int, host: Host) -> Installer:
    """Change the site file alone, as people do who then type `sealift install`."""
    places_below(box).config_file.write_bytes(TRIED.format(box, tokens).encode())
    return with_file(box, host)


def with_file(box: Path, host: Host) -> Installer:
    """Return an install by the site file that is in place."""
    return replace(installer(box, host), config=configuration.parse(places_below(box).config_file.read_bytes()))


def test_a_site_file_under_which_nothing_answers_goes_back_by_itself(box: Path) -> None:
    place, host = places_below(box).config_file, PickyHost()
    good = place.read_bytes()
    host.well = (configuration.parse(good).limits.input_tokens,)

    with pytest.raises(InstallError):
        with_limit(box, 7, host).install()

    assert host.plays == [("apply", 1), ("apply", 1)]
    assert place.read_bytes() == good
    assert (place.parent / "sealift.toml.tried").read_bytes() == TRIED.format(box, 7).encode()
    returned = Trials(places_below(box)).last_return()
    assert returned is not None
    assert returned.is_of_site_file
    assert bodies(box, "install.returned") == [returned.to_json()]
    release = next(one for one in status(installer(box).config, clock=SystemClock()).parts if one.name == "release")
    assert "went back from a changed site file" in release.text


def test_a_changed_site_file_that_was_cut_off_is_taken_back(box: Path) -> None:
    good = places_below(box).config_file.read_bytes()
    with pytest.raises(PowerFails):
        with_limit(box, 7, CutHost(sick=frozenset({1}))).install()
    assert (box / "opt/sealift/before").resolve() == InstalledReleases(places_below(box)).folder(1)

    returned = installer(box, FakeHost()).settle()

    assert returned is not None
    assert returned.why == "the install was cut off"
    assert places_below(box).config_file.read_bytes() == good


HANDLED = "RUNNING HANDLER [units : Restart Sealift] ****\nchanged: [localhost]\n"


def test_what_was_changed_in_the_site_file_is_read_anew_by_those_who_read_it(box: Path) -> None:
    with_limit(box, 6, FakeHost()).install()
    host = FakeHost(changes=3)  # of nginx, say, which starts nobody of ours anew

    assert with_limit(box, 7, host).preview().changed
    assert with_limit(box, 7, host).install().changed
    assert host.restarted == ["gateways"]
    place = places_below(box).config_file
    place.write_bytes(b"# a remark alone\n" + place.read_bytes())
    with_file(box, host).install()
    assert host.restarted == ["gateways"]
    place.write_bytes(place.read_bytes() + b"concurrent_requests = 90\n")
    with_file(box, host).install()
    assert host.restarted == ["gateways", "all"]  # engines have a thread for each
    place.write_bytes(place.read_bytes() + b"[engine]\nstart_seconds = 90\n")
    with_file(box, host).install()
    assert host.restarted == ["gateways", "all", "all"]


def test_what_the_playbook_started_anew_is_not_started_twice(box: Path) -> None:
    with_limit(box, 6, FakeHost()).install()
    host = FakeHost()
    host.account = HANDLED

    with_limit(box, 7, host).install()

    assert host.restarted == []


def test_what_somebody_writes_into_the_site_file_during_an_install_is_news_to_the_next_one(box: Path) -> None:
    with_limit(box, 6, FakeHost()).install()

    class Edited(FakeHost):
        def restart(self, which: str) -> None:
            super().restart(which)
            places_below(box).config_file.write_bytes(TRIED.format(box, 8).encode())

    with_limit(box, 7, Edited()).install()

    assert Trials(places_below(box)).settings() == TRIED.format(box, 7).encode()
    after = FakeHost(changes=0)
    assert with_file(box, after).install().changed
    assert after.restarted == ["gateways"]


def test_an_install_whose_site_file_goes_back_with_what_was_cut_off_before_ends_there(box: Path) -> None:
    with_limit(box, 6, FakeHost()).install()
    with pytest.raises(PowerFails):
        with_limit(box, 7, CutHost(sick=frozenset({1}))).install()
    host = FakeHost()

    with pytest.raises(InstallError, match="its site file with it"):
        with_file(box, host).install()

    assert host.plays == [("apply", 1)]
    assert Trials(places_below(box)).settings() == places_below(box).config_file.read_bytes()
    with_limit(box, 7, host).install()
    assert Trials(places_below(box)).settings() == TRIED.format(box, 7).encode()


def test_what_goes_back_is_read_anew_too(box: Path) -> None:
    with_limit(box, 6, FakeHost()).install()
    host = PickyHost(changes=0)
    host.well = (6,)

    with pytest.raises(InstallError):
        with_limit(box, 7, host).install()

    assert host.restarted == ["gateways"] * 2


class FullHost(CutHost):
    """Its disk is full when the host is to be put back: the playbook of the way back does not run."""

    def apply(self, play: Play, ansible: Path) -> PlayResult:
        if self.plays:
            raise InstallError(what="a task failed on this host", why="No space left on device")
        return FakeHost.apply(self, play, ansible)


def test_who_was_started_with_what_was_tried_reads_the_one_of_before_also_where_the_playbook_fails(box: Path) -> None:
    with_limit(box, 6, FakeHost()).install()
    host = FullHost(sick=frozenset({1}))

    with pytest.raises(InstallError):
        with_limit(box, 7, host).install()

    assert host.restarted == ["gateways"] * 2


def test_a_return_that_was_cut_off_itself_tells_those_who_read_what_was_tried(box: Path) -> None:
    with_limit(box, 6, FakeHost()).install()
    with pytest.raises(PowerFails):
        with_limit(box, 7, CutHost(sick=frozenset({1}))).install()
    with pytest.raises(PowerFails):  # when the site file is back and nobody was told
        with_file(box, CutHost(sick=frozenset({1}))).settle()
    host = FakeHost(changes=0)

    assert with_file(box, host).settle() is not None
    assert host.restarted == ["gateways"]


def test_a_box_that_was_not_well_before_is_mended_by_another_site_file(box: Path) -> None:
    host = PickyHost()
    host.well = (9,)
    with pytest.raises(InstallError):
        with_limit(box, 7, host).install()
    assert Trials(places_below(box)).pending() is None

    with_limit(box, 9, host).install()

    assert Trials(places_below(box)).last_return() is None
    assert host.plays == [("apply", 1)] * 3


def test_an_install_that_was_cut_off_is_taken_back_by_the_release_before(box: Path) -> None:
    add_release(box, 2)
    cut_off(box, 2)
    assert InstalledReleases(places_below(box)).require_current().serial == 2
    assert (box / "opt/sealift/before").resolve() == InstalledReleases(places_below(box)).folder(1)
    host = FakeHost()

    returned = installer(box, host).settle()

    assert returned is not None
    assert (returned.serial, returned.back_to, returned.why) == (2, 1, "the install was cut off")
    assert host.plays == [("apply", 1)]
    assert InstalledReleases(places_below(box)).require_current().serial == 1
    assert installer(box, FakeHost()).settle() is None
    assert len(bodies(box, "install.returned")) == 1


def test_the_next_install_takes_back_what_was_cut_off_before_it_begins(box: Path) -> None:
    add_release(box, 2)
    cut_off(box, 2)
    host = FakeHost()

    facts = installer(box, host).install(2)

    assert (facts.serial, facts.previous) == (2, 1)
    assert host.plays == [("apply", 1), ("apply", 2)]


def test_a_first_install_that_was_cut_off_is_begun_anew(box: Path) -> None:
    places_below(box).current.unlink()
    cut_off(box, 1)

    facts = installer(box, FakeHost()).install(1)

    assert (facts.serial, facts.previous) == (1, None)


def test_when_going_back_fails_too_the_trial_stays_for_the_next_boot(box: Path) -> None:
    add_release(box, 2)

    with pytest.raises(InstallError):
        installer(box, FakeHost(sick=frozenset({1, 2}))).install(2)

    assert Trials(places_below(box)).pending() is not None
    assert InstalledReleases(places_below(box)).require_current().serial == 1
    assert installer(box, FakeHost()).settle() is not None


def test_a_release_in_use_whose_record_does_not_read_is_no_machine_without_one(box: Path) -> None:
    """It counted as first trust: whoever may install did so unapproved, and nothing was there to go back to."""
    people_of(box)
    add_release(box, 2)
    _damage(box, 1)
    host = FakeHost()

    with pytest.raises(InstallError, match="which release is in use cannot be told"):
        at_site(box, host).install(2)

    assert [play for play in host.plays if play[0] == "apply"] == []
    assert places_below(box).current.readlink() == Path("releases/1")
    with pytest.raises(InstallError, match="cannot be told"):
        hostplan.waits_for_people(site_config(box), clock=SystemClock())


def test_where_the_release_before_does_not_read_any_more_the_box_keeps_the_one_that_it_tried(box: Path) -> None:
    add_release(box, 2)

    class Damaging(FakeHost):
        def apply(self, play: Play, ansible: Path) -> PlayResult:
            _damage(box, 1)
            return super().apply(play, ansible)

    with pytest.raises(InstallError, match="the services do not answer"):
        installer(box, Damaging(sick=frozenset({2}))).install(2)

    assert places_below(box).current.readlink() == Path("releases/2")
    assert Trials(places_below(box)).pending() is not None
    with pytest.raises(InstallError, match="release 1 is not installed"):
        installer(box, FakeHost()).settle()


def _damage(box: Path, serial: int) -> None:
    record = InstalledReleases(places_below(box)).folder(serial) / "installed.json"
    record.chmod(0o600)
    record.write_bytes(record.read_bytes()[:20])


def test_a_second_install_beside_one_that_runs_is_refused(box: Path) -> None:
    with Trials(places_below(box)).locked(), pytest.raises(InstallError, match="another install"):
        installer(box, FakeHost()).install()


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


def test_an_install_that_is_killed_before_its_record_is_taken_back_and_no_release_stays_unrecorded(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_release(box, 2)
    monkeypatch.setattr(installrecord, "_body", _power_fails)
    with pytest.raises(PowerFails):
        installer(box, FakeHost()).install(2)
    monkeypatch.undo()

    returned = installer(box, FakeHost()).settle()

    assert returned is not None
    assert (returned.serial, returned.back_to) == (2, 1)
    assert InstalledReleases(places_below(box)).require_current().serial == 1


def test_a_release_that_cannot_be_recorded_does_not_stay(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_release(box, 2)
    host = FakeHost()
    monkeypatch.setattr(installrecord, "_body", _cannot_be_written)

    with pytest.raises(StoreWriteError):
        installer(box, host).install(2)

    assert host.plays == [("apply", 2), ("apply", 1)]
    assert InstalledReleases(places_below(box)).require_current().serial == 1
    assert [one["serial"] for one in bodies(box, "install.done")] == [1]


def test_what_people_approved_is_on_record_before_the_host_changes(box: Path) -> None:
    """Scenario: another site file is approved, and power fails in the middle; no release changes, so none goes back."""
    site = people_of(box)
    (box / "etc/sealift/sealift.toml").write_text('site = "demo"\n# another setting\n')
    statement = approved(site, at_site(box, FakeHost()).plan(1))

    with pytest.raises(PowerFails):
        at_site(box, CutHost(sick=frozenset({1}))).install(1)

    release = InstalledReleases(places_below(box)).require_current().release
    assert bodies(box, "install.begun") == [{"serial": 1, "release": release, "host_approval": statement}]


def _power_fails(*_: Any, **__: Any) -> Any:
    raise PowerFails


def _cannot_be_written(*_: Any, **__: Any) -> Any:
    raise StoreWriteError(what="the record cannot be written", why="the test says so", fix="none")
