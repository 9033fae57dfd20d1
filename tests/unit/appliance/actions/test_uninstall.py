"""Taking Sealift off a machine: what goes, what stays, who decides, and that the ledger says so last."""

import json
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.actions import hostplan, uninstall
from appliance.actions.uninstall import REMOVED, Decision
from appliance.audit.log import Log
from appliance.audit.memory import MemoryLedger
from appliance.errors import ApprovalRefusedError, InstallError, LedgerUnavailableError, PreflightError
from appliance.install.playbook import Play
from appliance.install.releases import InstalledRelease, InstalledReleases
from appliance.install.trial import Trials
from appliance.registry import evidence
from media.clock import SystemClock
from tests.support.ledger import LedgerSite, bodies, ledger_site

DECISION = Decision(typed_site="demo", people=("ann", "bo"), reason="the machine is needed elsewhere")
GOES = ("opt/sealift", "etc/sealift/tls", "var/lib/sealift/store", "var/lib/sealift/registry", "var/lib/sealift/logs")
STAYS = ("etc/sealift/keys", "etc/sealift/trust", "var/lib/sealift/ledger", "var/lib/sealift/receipts")


class FakeHost:
    """Remembers which playbooks were asked for."""

    def __init__(self) -> None:
        self.books: list[str] = []

    def apply(self, play: Play, ansible: Path) -> None:
        self.books.append(play.book)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LedgerSite]:
    with ledger_site(tmp_path) as found:
        root = found.places.root
        for name in (*GOES[1:], *STAYS):
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name / "content").write_text("x")
        releases = InstalledReleases(found.places)
        (releases.folder(1) / "ansible").mkdir(parents=True)
        (releases.folder(1) / "ansible/uninstall.yml").write_text("---\n")
        releases.write(InstalledRelease(serial=1, release="demo-1", environments={}, host_files="a" * 64))
        releases.switch(1)
        yield found


def run(site: LedgerSite, decision: Decision = DECISION, *, host: FakeHost | None, dry_run: bool = False) -> object:
    return uninstall.uninstall(
        site.config, decision, host=host, confirm=str.title, clock=SystemClock(), dry_run=dry_run
    ).to_json()


def there(site: LedgerSite) -> set[str]:
    return {name for name in (*GOES, *STAYS) if (site.places.root / name).exists()}


def recorded(log: Log) -> list[object]:
    return [json.loads(json.dumps(leaf.body)) for leaf in log.find(kind=REMOVED)]


def test_what_runs_goes_and_what_proves_the_past_stays(site: LedgerSite) -> None:
    host = FakeHost()
    with site.running() as log:
        facts = run(site, host=host)
        (body,) = recorded(log)

    assert there(site) == set(STAYS)
    assert host.books == ["uninstall.yml"]
    assert isinstance(facts, dict)
    assert set(GOES) <= set(facts["removed"])
    assert set(STAYS) <= set(facts["kept"])
    assert "demo" in facts["checkpoint"]
    assert isinstance(body, dict)
    assert [one["name"] for one in body["by"]] == ["Ann", "Bo"]
    assert body["reason"] == DECISION.reason


def test_the_evidence_that_people_signed_stays_and_goes_with_the_rest(site: LedgerSite) -> None:
    kept = evidence.folder(site.places)
    kept.mkdir()
    (site.places.etc / "release.conf").write_text("serial=1\n")

    all_of_it = run(site, replace(DECISION, evidence=True), host=FakeHost(), dry_run=True)
    with site.running():
        facts = run(site, host=FakeHost())

    assert isinstance(facts, dict)
    assert isinstance(all_of_it, dict)
    assert [path.name for path in site.places.registry.iterdir()] == ["evidence"]
    assert "var/lib/sealift/registry/evidence" in facts["kept"]
    assert {"var/lib/sealift/registry", "etc/sealift/release.conf"} <= set(facts["removed"])
    assert not (site.places.etc / "release.conf").exists()
    assert "var/lib/sealift/registry" in all_of_it["removed"]


def test_cut_off_in_the_middle_of_a_release_none_is_in_use(site: LedgerSite, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = uninstall._remove

    def cut(path: Path, *, but: Collection[Path] = ()) -> None:
        if path == site.places.current.parent:
            raise KeyboardInterrupt
        whole(path, but=but)

    monkeypatch.setattr(uninstall, "_remove", cut)
    with site.running(), pytest.raises(KeyboardInterrupt):
        run(site, host=FakeHost())

    assert not site.places.current.is_symlink()
    assert (site.places.releases / "1").is_dir()


@pytest.fixture
def cut_off(site: LedgerSite, monkeypatch: pytest.MonkeyPatch) -> LedgerSite:
    """Such a site whose uninstall was recorded, and cut off with the services stopped."""

    class CutOff(FakeHost):
        def apply(self, play: Play, ansible: Path) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(hostplan, "is_anybody_here", lambda *_, **__: True)
    with site.running(), pytest.raises(KeyboardInterrupt):
        run(site, host=CutOff())
    return site


def test_what_was_cut_off_after_the_services_stopped_is_gone_on_with_by_the_same_people(
    cut_off: LedgerSite,
) -> None:
    assert set(GOES) <= there(cut_off)

    with pytest.raises(LedgerUnavailableError):
        run(cut_off, replace(DECISION, people=("ann", "cy")), host=FakeHost())
    host = FakeHost()
    facts = run(cut_off, host=host)

    assert isinstance(facts, dict)
    assert "demo" in facts["checkpoint"]
    assert (there(cut_off), host.books) == (set(STAYS), ["uninstall.yml"])


def test_what_was_cut_off_and_then_ran_again_takes_people_and_the_ledger_again(
    cut_off: LedgerSite,
) -> None:
    with cut_off.running():
        pass  # they thought better of it, and the box served for another year

    with pytest.raises(LedgerUnavailableError):
        run(cut_off, host=FakeHost())
    assert set(GOES) <= there(cut_off)


def test_what_was_decided_about_one_node_takes_no_other_off_and_is_gone_on_with_while_others_run() -> None:
    ledger = MemoryLedger()
    removed = {"by": [{"person": "ann"}, {"person": "bo"}], "reason": "x", "serial": 1, "kept": []}
    for node, kind, body in (("a", REMOVED, removed), ("b", "install.done", bodies()["install.done"])):
        ledger.log.node = node
        ledger.append(kind, body)

    assert uninstall._is_begun(ledger, DECISION, "a")
    assert not uninstall._is_begun(ledger, DECISION, "b")
    ledger.append(REMOVED, removed)
    assert uninstall._is_begun(ledger, DECISION, "b")
    assert not uninstall._is_begun(ledger, DECISION, "c")


def test_after_an_install_what_was_recorded_before_takes_nothing_off(site: LedgerSite) -> None:
    with site.running():
        run(site, host=FakeHost())
        through = site.door("ledger-actions")
        through.append("install.done", bodies()["install.done"])
        through.close()
    InstalledReleases(site.places).folder(1).mkdir(parents=True)

    with pytest.raises(LedgerUnavailableError):
        run(site, host=None)


def test_a_dry_run_says_it_and_changes_nothing(site: LedgerSite) -> None:
    before = there(site)
    host = FakeHost()

    facts = run(site, replace(DECISION, typed_site=""), host=host, dry_run=True)

    assert isinstance(facts, dict)
    assert set(GOES) <= set(facts["removed"])
    assert (there(site), host.books) == (before, [])


@pytest.mark.parametrize(
    "decision",
    [
        replace(DECISION, typed_site="demp"),
        replace(DECISION, reason=" "),
        replace(DECISION, people=("ann", "ann")),
        replace(DECISION, people=()),
        replace(DECISION, evidence=True),
    ],
)
def test_without_the_name_a_reason_and_two_people_or_a_retirement_nothing_goes(
    site: LedgerSite, decision: Decision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostplan, "is_anybody_here", lambda *_, **__: True)
    before, host = there(site), FakeHost()
    with site.running() as log:
        with pytest.raises(ApprovalRefusedError):
            run(site, decision, host=host)
        assert recorded(log) == []

    assert (there(site), host.books) == (before, [])


def test_what_cannot_be_recorded_is_not_done(site: LedgerSite) -> None:
    before, host = there(site), FakeHost()

    with pytest.raises(LedgerUnavailableError):
        run(site, host=host)

    assert (there(site), host.books) == (before, [])


def test_an_install_that_runs_and_a_release_without_that_playbook_stop_it(site: LedgerSite) -> None:
    before, host = there(site), FakeHost()
    with site.running() as log:
        with Trials(site.places).locked(), pytest.raises(InstallError):
            run(site, host=host)
        (site.places.releases / "1/ansible/uninstall.yml").unlink()
        with pytest.raises(PreflightError):
            run(site, host=host)
        assert recorded(log) == []

    assert (there(site), host.books) == (before, [])
