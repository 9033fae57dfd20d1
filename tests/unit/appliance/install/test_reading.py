"""A release that does not read what a site has stored is refused before anybody is asked to approve it."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from appliance import formats
from appliance.actions.host import Planner
from appliance.actions.install import Installer
from appliance.actions.standby import introducing
from appliance.errors import InstallError, StoreDamagedError
from appliance.install import plans
from appliance.install.carried import Whole, complete
from appliance.install.decided import Decided
from appliance.install.jobs import Job, Kind
from appliance.install.reading import require_reads
from appliance.install.releases import InstalledReleases
from media import canonical
from media.clock import SystemClock
from tests.support import boxes
from tests.support.installable import requirement, small_release, store_release, wheel
from tests.support.promotion import Site, digest, open_site
from tests.unit.appliance.actions.test_install import FakeHost

A, B, C, D = (digest(name) for name in "ABCD")
OLD, THIS = 1, 2
SERVER = "data/server/requirements-server.txt"


def carrying(reads: Mapping[str, int] | bytes | None) -> dict[str, bytes]:
    """Return a release whose own wheel says what it reads; None says nothing, as releases of before."""
    said = reads.decode() if isinstance(reads, bytes) else None if reads is None else canonical.dumps(reads).decode()
    content = {"appliance/__init__.py": "", **({} if said is None else {f"appliance/{formats.FILE}": said})}
    name, data = wheel("sealift", "1.0", content)
    files = small_release()
    files[SERVER] += requirement("sealift", "1.0", data).encode()
    return {**files, f"data/wheels/{name}": data}


def stored_whole(site: Site, files: Mapping[str, bytes], *, serial: int = 9) -> Whole:
    """Store a release and return it as it is to be installed."""
    return complete(store_release(site.config.at, files, serial=serial), InstalledReleases(site.config.at))


def with_releases(site: Site) -> Site:
    """Lay a release of before and this one into the site's store."""
    store_release(site.config.at, carrying(None), serial=OLD)
    store_release(site.config.at, carrying(formats.READS), serial=THIS)
    return site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = with_releases(open_site(tmp_path))
    made.promote(A)
    made.promote(B)
    return made


def installer(site: Site, host: FakeHost | None) -> Installer:
    return Installer(
        config=site.config,
        config_file=site.root / "none.toml",
        clock=SystemClock(),
        progress=lambda _: None,
        host=host,
    )


def test_at_a_site_with_one_model_any_release_may_go_in(site: Site) -> None:
    site.client.stop(person="ana-petrova", reason="to be sure")
    for serial in (OLD, THIS):
        assert installer(site, FakeHost()).plan(serial).serial == serial


def test_once_a_further_model_was_in_production_a_release_of_before_does_not_go_in(
    site: Site,
) -> None:
    site.promote(C, name="classes", beside=True)
    site.client.stop(person="ana-petrova", reason="not needed", line="classes")
    site.promote(D)
    host = FakeHost()
    for attempt in (installer(site, host).plan, installer(site, host).preview, installer(site, host).install):
        with pytest.raises(InstallError) as refused:
            attempt(OLD)
        assert refused.value.what == "release r1 (serial 1) does not read what this site has stored"
        assert "promotion format 3" in refused.value.why
        assert "knows several models" in refused.value.fix
    with pytest.raises(InstallError, match="does not read"):
        installer(site, None).install(OLD)

    assert host.plays == []
    assert not plans.folder(site.config.at).exists()
    assert not site.config.at.current.is_symlink()
    plan = installer(site, host).plan(THIS)
    assert plans.read(site.config.at, plan.digest).serial == THIS


@pytest.mark.parametrize(
    "reads",
    [
        None,
        {"promotion": 2},
        {"statement": 3},
        b"{}",
        b"not json",
        b'{"promotion":"3"}',
        b" " * 70_000 + b'{"promotion":3}',
    ],
)
def test_a_release_reads_what_its_own_wheel_says_and_no_more(
    reads: Mapping[str, int] | bytes | None, site: Site
) -> None:
    site.promote(C, name="classes", beside=True)
    with pytest.raises(InstallError, match="does not read"):
        require_reads(site.config.at, stored_whole(site, carrying(reads)))
    require_reads(site.config.at, stored_whole(site, carrying({"promotion": 4}), serial=10))


def test_a_release_without_a_wheel_of_ours_says_nothing(site: Site) -> None:
    site.promote(C, name="classes", beside=True)
    files = carrying(formats.READS)
    unlisted = {**files, SERVER: small_release()[SERVER]}

    for serial, wrong in enumerate((small_release(), unlisted), 9):
        with pytest.raises(InstallError, match="does not read"):
            require_reads(site.config.at, stored_whole(site, wrong, serial=serial))


def test_of_an_update_the_wheel_that_it_installs_is_asked_and_not_the_one_that_it_replaces(site: Site) -> None:
    """Scenario: a security update brings another version of our wheel, beside the one of the release below it."""
    site.promote(C, name="classes", beside=True)
    name, other = wheel("sealift", "1.1", {"appliance/__init__.py": ""})
    both = {**carrying(formats.READS), f"data/wheels/{name}": other}
    replaced = small_release()[SERVER] + requirement("sealift", "1.1", other).encode()

    require_reads(site.config.at, stored_whole(site, both))
    with pytest.raises(InstallError, match="does not read"):
        require_reads(site.config.at, stored_whole(site, {**both, SERVER: replaced}, serial=10))


def test_a_wheel_that_is_not_what_was_signed_is_not_asked(site: Site) -> None:
    site.promote(C, name="classes", beside=True)
    whole = stored_whole(site, carrying({"promotion": 3, "other": 1}))
    name = next(target for target in whole.stored.files if "sealift-" in target)
    whole.stored.path_of(name).chmod(0o644)
    whole.stored.path_of(name).write_bytes(b"PK")

    with pytest.raises(StoreDamagedError):
        require_reads(site.config.at, whole)


def test_a_pairing_whose_cards_say_what_they_read_is_not_read_by_a_release_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = with_releases(boxes.open_box(tmp_path / "one")), boxes.open_box(tmp_path / "two")
    with monkeypatch.context() as before:
        before.setattr(formats, "READS", {})
        boxes.pair(first, second)
    boxes.card(first, "one")  # a card that no pairing holds yet is no reason
    assert installer(first, FakeHost()).plan(OLD).serial == OLD
    introducing.part(first.config, "two", by=["Ana", "Ben"], reason="anew", ledger=first.ledger)
    introducing.part(second.config, "one", by=["Ana", "Ben"], reason="anew", ledger=second.ledger)
    boxes.pair(first, second)

    with pytest.raises(InstallError) as refused:
        installer(first, FakeHost()).plan(OLD)

    assert "box-card format 2" in refused.value.why
    assert refused.value.fix == "part from the other box first: `sealift standby part NAME`"
    assert installer(first, FakeHost()).plan(THIS).serial == THIS


def test_a_file_that_does_not_read_is_left_to_whoever_reads_it(site: Site) -> None:
    (site.config.at.promoter / "promotions/000002.json").write_bytes(b"torn")
    site.config.at.boxes.mkdir(parents=True)
    (site.config.at.boxes / "two.json").write_bytes(b"{}")

    assert installer(site, FakeHost()).plan(OLD).serial == OLD


class Unit(FakeHost, Planner):
    """The machine as the unit of plans has it, whose user may not look into the promoter's folder."""


def test_the_unit_of_plans_plans_though_it_may_not_see_what_is_stored(site: Site) -> None:
    hidden = site.config.at.promoter / "promotions"
    shutil.rmtree(hidden)
    hidden.touch()  # what root cannot look into either

    assert installer(site, Unit()).plan(THIS).serial == THIS
    with pytest.raises(InstallError, match="cannot be read"):
        installer(site, FakeHost()).plan(THIS)


def test_the_job_service_looks_before_it_has_a_plan_made(site: Site) -> None:
    site.promote(C, name="classes", beside=True)
    decided = Decided(site.config, site.ledger, read=lambda: site.config)

    with pytest.raises(InstallError, match="does not read"):
        decided.require(Job(kind=Kind.PLAN, serial=OLD))
    decided.require(Job(kind=Kind.PLAN, serial=THIS))
