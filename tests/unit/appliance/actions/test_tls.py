"""Rotation, revocation and the facility's authority: what is made when, what is recorded, what stays when it fails."""

import json
import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from appliance.actions import tls, tls_clients, tls_facility, tls_standing
from appliance.actions.tls_placing import Here
from appliance.audit.client import OfflineLedger
from appliance.audit.memory import MemoryLedger
from appliance.errors import (
    CertificateRefusedError,
    ClockUncertainError,
    InstallError,
    LedgerUnavailableError,
    NotInstalledError,
    UnitError,
)
from appliance.install import certificates, tlskey, webserver
from appliance.install.certificates import fingerprint, serial_of
from appliance.install.revocation import Reason, Revocations, read_crl
from appliance.install.tlsfolder import TlsFolder
from media.clock import FixedClock
from tests.support.tls import HOST, NOW, Authority, Server, authority, here, pem, site

DAY = 86400


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(at=NOW)


@pytest.fixture
def box(tmp_path: Path, clock: FixedClock) -> Here:
    return here(site(tmp_path), clock=clock)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webserver, "_PATIENCE", 3)
    monkeypatch.setattr(webserver, "_PAUSE_SECONDS", 0)


def shown(box: Here) -> x509.Certificate:
    found = box.folder.shown()
    assert found is not None
    return found.certificate


def kinds(box: Here) -> list[str]:
    return [leaf.kind for leaf in box.ledger.leaves(0, 100)]


def test_facts_wait_in_the_spool_where_no_ledger_runs(tmp_path: Path, clock: FixedClock) -> None:
    config = site(tmp_path)
    box = Here(config=config, ledger=OfflineLedger(config.at, clock=clock, spool=True), clock=clock)

    tls.rotate(box)

    assert [json.loads(path.read_bytes())["kind"] for path in sorted(config.at.spool.iterdir())] == [
        *("tls.authority-made", "tls.crl-made", "tls.certificate-made")
    ]


def test_the_first_rotation_makes_everything_and_the_second_nothing(box: Here) -> None:
    first, second = tls.rotate(box), tls.rotate(box)

    assert first.made == ("ca", "server", "crl")
    assert (second.made, second.to_json()["changed"]) == ((), False)
    assert kinds(box)[1:] == ["tls.authority-made", "tls.crl-made", "tls.certificate-made"]


@pytest.mark.parametrize("is_given", [True, False])
def test_keys_are_for_root_and_the_shown_one_for_the_web_server_and_certificates_for_everyone(
    box: Here,
    monkeypatch: pytest.MonkeyPatch,
    is_given: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    monkeypatch.setattr(tlskey, "_given", lambda: os.getgid() if is_given else None)
    tls.rotate(box)
    tls_facility.request(box)

    folder = box.folder.path
    assert (folder / "trust.crt").readlink() == Path("ca.crt")
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}
    assert {modes.pop(folder / name) for name in ("ca.key", "pending/server.key")} == {0o400}
    assert modes.pop(box.folder.shown_key_file.resolve()) == (0o640 if is_given else 0o400)
    assert {modes.pop(path) for path in folder.glob("*.lock")} == {0o600}
    assert set(modes.values()) == {0o444}


def test_a_facilitys_pair_is_for_the_web_server_to_read(
    tmp_path: Path, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tlskey, "_given", os.getgid)
    box, root = here(site(tmp_path, authority="facility"), clock=clock), authority()
    tls.rotate(box)
    made = root.issue(ask(box).public_key())
    tls_facility.import_chain(box, pem(made), untrusted_root=root.pem)

    key = box.folder.shown_key_file
    assert shown(box) == made
    assert (stat.S_IMODE(key.stat().st_mode), key.stat().st_gid) == (0o640, os.getgid())


def test_keys_that_a_release_before_left_to_root_alone_are_given_to_the_web_server(
    box: Here, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tlskey, "_given", lambda: None)
    monkeypatch.setattr(tlskey, "_OWNER", os.getuid())
    tls.rotate(box)
    clock.advance(61 * DAY)
    tls.rotate(box)
    keys = {key: key.read_bytes() for key in box.folder.path.glob("kept/*/server.key")}
    for name in ("_given", "group"):
        monkeypatch.setattr(tlskey, name, os.getgid)

    first, second = tls.rotate(box), tls.rotate(box)

    assert (first.made, first.is_given, first.to_json()["changed"]) == ((), True, True)
    assert (second.is_given, second.to_json()["changed"]) == (False, False)
    assert len(keys) == 2
    assert {key: key.read_bytes() for key in keys} == keys
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o640}
    assert not list(box.folder.path.rglob(".*.key")), "nothing of it is left beside"


def test_a_key_that_cannot_be_given_is_not_shown(box: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    tls.rotate(box)
    before = shown(box)

    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(tlskey, "_given", lambda: os.getgid() + 1)
    monkeypatch.setattr(os, "chown", refused)

    with pytest.raises(InstallError, match="could not be given"):
        tls.rotate(box, at_once="leaked")

    assert shown(box) == before
    assert not list(box.folder.path.rglob(".*.key"))


@pytest.mark.parametrize(
    ("mode", "of_web", "is_good"),
    [(0o640, True, True), (0o400, True, False), (0o644, True, False), (0o640, False, False)],
)
def test_a_box_tells_of_a_key_that_the_web_server_cannot_read_or_others_can(
    box: Here,
    monkeypatch: pytest.MonkeyPatch,
    mode: int,
    of_web: bool,  # noqa: FBT001 - a parameter of the table
    is_good: bool,  # noqa: FBT001
) -> None:
    tls.rotate(box)
    assert "certificate key" not in said(box), "a demo has no web server of its own user"
    monkeypatch.setattr(tls_standing, "is_booted_box", lambda _: True)
    monkeypatch.setattr(tlskey, "_OWNER", os.getuid())
    monkeypatch.setattr(tlskey, "group", lambda: os.getgid() + (not of_web))
    key = box.folder.shown_key_file
    os.chown(key, -1, os.getgid())
    key.chmod(mode)

    (found,) = (one for one in tls_standing.findings(box.config, clock=box.clock) if one.name == "certificate key")

    assert found.is_good is is_good
    assert "sealift tls rotate" in found.fix
    assert is_good or found.text.endswith(f" {mode:04o}, and has to be root:www-data 0640")
    key.unlink()
    assert said(box)["certificate key"] == (False, "it cannot be found: No such file or directory")


@pytest.mark.parametrize(("days", "made"), [(59, False), (61, True)])
def test_a_certificate_is_replaced_in_its_last_thirty_days_while_the_old_one_is_valid(
    box: Here,
    clock: FixedClock,
    days: int,
    made: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    tls.rotate(box)
    before = shown(box)
    clock.advance(days * DAY)

    done = tls.rotate(box)

    assert ("server" in done.made) is made
    assert before.not_valid_after_utc > clock.now()
    assert (shown(box) == before) is not made
    assert len(list((box.folder.path / "kept").iterdir())) == (2 if made else 1)


def test_a_pair_is_forgotten_when_its_certificate_has_ended(box: Here, clock: FixedClock) -> None:
    tls.rotate(box)
    clock.advance(61 * DAY)
    tls.rotate(box)
    clock.advance(30 * DAY)

    assert len(tls.rotate(box).forgotten) == 1
    assert len(list((box.folder.path / "kept").iterdir())) == 1


def test_the_record_of_a_rotation_names_both_certificates(box: Here, clock: FixedClock) -> None:
    tls.rotate(box)
    before = shown(box)
    clock.advance(61 * DAY)
    tls.rotate(box)

    body = box.ledger.find(kind=tls.MADE, limit=1)[0].body
    assert (body["replaces"], body["fingerprint"]) == (fingerprint(before), fingerprint(shown(box)))
    assert body["why"] == "age"


def test_without_a_record_nothing_is_rotated(box: Here, clock: FixedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    tls.rotate(box)
    before = shown(box)
    clock.advance(61 * DAY)

    def refuse(*_: object) -> None:
        raise LedgerUnavailableError(what="no", why="", fix="")

    monkeypatch.setattr(box.ledger, "append", refuse)
    with pytest.raises(LedgerUnavailableError):
        tls.rotate(box)
    assert shown(box) == before


def test_a_web_server_that_does_not_show_the_new_one_gets_the_old_one_back(box: Here, clock: FixedClock) -> None:
    tls.rotate(box)
    before = shown(box)
    clock.advance(61 * DAY)
    assert isinstance(box.server, Server)
    box.server.is_broken = True

    with pytest.raises(UnitError):
        tls.rotate(box)

    assert shown(box) == before
    assert kinds(box)[-1] == "tls.rotation-failed"
    assert box.server.told[-1] == fingerprint(before)


def test_the_clock_must_not_be_before_the_last_record(tmp_path: Path, clock: FixedClock) -> None:
    ledger = MemoryLedger(FixedClock(at=NOW + timedelta(days=2)))
    ledger.append("test.later", {})

    with pytest.raises(ClockUncertainError, match="clock"):
        tls.rotate(here(site(tmp_path), clock=clock, ledger=ledger))
    assert not (tmp_path / "etc/sealift/tls").exists()


def test_another_name_or_address_gets_another_certificate_from_the_same_authority(
    tmp_path: Path, clock: FixedClock, box: Here
) -> None:
    tls.rotate(box)
    ca = (box.folder.path / "ca.crt").read_bytes()

    renamed = tls.rotate(here(site(tmp_path, hostname="other.example"), clock=clock))
    moved = tls.rotate(here(site(tmp_path, hostname="other.example", addresses=("10.0.0.8", "fd00::8")), clock=clock))

    assert (renamed.made, renamed.why) == (("server",), "name")
    assert moved.made == ("server",)
    assert (box.folder.path / "ca.crt").read_bytes() == ca


def test_a_key_that_does_not_belong_to_its_certificate_is_made_anew(box: Here) -> None:
    tls.rotate(box)
    key = box.folder.path / "current/server.key"
    key.unlink()
    key.write_bytes((box.folder.path / "ca.key").read_bytes())

    assert tls.rotate(box).why == "absent"


def test_a_lost_authority_is_made_anew_and_so_is_what_it_had_signed(box: Here) -> None:
    tls.rotate(box)
    before = shown(box)
    (box.folder.path / "ca.key").unlink()

    assert tls.rotate(box).made == ("ca", "server", "crl")

    found = box.folder.authority()
    assert found is not None
    assert before.issuer == found.certificate.subject
    shown(box).verify_directly_issued_by(found.certificate)


def test_a_dry_run_says_what_is_due_and_makes_nothing(box: Here, tmp_path: Path) -> None:
    assert tls.rotate(box, dry_run=True).made == ("ca", "server", "crl")
    assert not (tmp_path / "etc").exists()


def test_the_revocation_list_is_made_again_weeks_before_it_ends(box: Here, clock: FixedClock) -> None:
    tls.rotate(box)
    clock.advance(6 * DAY)
    early = tls.rotate(box).made
    clock.advance(2 * DAY)

    assert (early, tls.rotate(box).made) == ((), ("crl",))
    assert Revocations.load(box.folder).number == 2


def test_a_revocation_list_that_was_cut_off_or_put_back_is_made_again(box: Here) -> None:
    tls.rotate(box)
    old = box.folder.crl_file.read_bytes()
    tls_clients.issue(box, name="emr-1")
    tls_clients.revoke(box, "emr-1", Reason.KEY_COMPROMISE)
    box.folder.crl_file.unlink()
    box.folder.crl_file.write_bytes(old)

    assert tls.rotate(box).made == ("crl",)
    crl = read_crl(box.folder)
    assert crl is not None
    assert len(list(crl)) == 1


def test_taking_back_the_shown_certificate_replaces_it_first(box: Here) -> None:
    tls.rotate(box)
    before = shown(box)

    tls.revoke(box, serial_of(before), Reason.KEY_COMPROMISE)

    crl = read_crl(box.folder)
    assert crl is not None
    assert shown(box) != before
    assert crl.get_revoked_certificate_by_serial_number(before.serial_number) is not None
    assert "tls.revoked" in kinds(box)


def ask(box: Here) -> x509.CertificateSigningRequest:
    return tls_facility.request(box)


def test_the_facilitys_certificate_takes_the_place_of_the_boxes_own(tmp_path: Path, clock: FixedClock) -> None:
    box, root = here(site(tmp_path, authority="facility"), clock=clock), authority()
    tls.rotate(box)
    issuing = root.below()
    made = issuing.issue(ask(box).public_key())

    judged = tls_facility.import_chain(box, pem(made, issuing.certificate), untrusted_root=root.pem)

    assert shown(box) == made
    assert (box.folder.path / "trust.crt").read_bytes() == root.pem
    assert judged.remarks == ("does not name 10.0.0.7: callers have to use the names that it has",)
    assert box.folder.pending() is None
    assert tls.rotate(box).made == ()


def test_a_certificate_ends_with_the_first_of_those_between(tmp_path: Path, clock: FixedClock) -> None:
    """Scenario: callers refuse the chain on the day on which the issuing authority ends; the box showed 89 days."""
    config = site(tmp_path, authority="facility")
    box, root = here(config, clock=clock), authority()
    tls.rotate(box)
    issuing = root.below(days=11)
    tls_facility.import_chain(
        box, pem(issuing.issue(ask(box).public_key()), issuing.certificate), untrusted_root=root.pem
    )

    assert tls_standing.left(config, clock=clock)["server"] == timedelta(days=10)
    found = next(tls_standing.findings(config, clock=clock))
    assert (found.is_good, "ends in 10 days" in found.text, "those between" in found.text) == (False, True, True)
    assert tls.rotate(box).made != ()
    assert box.folder.request() is not None


def test_the_facilitys_certificate_may_write_the_boxes_name_in_other_capitals(
    tmp_path: Path, clock: FixedClock
) -> None:
    config = site(tmp_path, hostname=HOST.upper(), authority="facility")
    box, root = here(config, clock=clock), authority()
    tls.rotate(box)
    tls_facility.import_chain(box, pem(root.issue(ask(box).public_key())), untrusted_root=root.pem)

    assert tls.rotate(box).made == ()
    assert next(tls_standing.findings(config, clock=clock)).is_good is True


def test_a_request_waits_by_itself_when_the_facilitys_certificate_is_due(tmp_path: Path, clock: FixedClock) -> None:
    box, root = here(site(tmp_path, authority="facility"), clock=clock), authority()
    tls.rotate(box)
    tls_facility.import_chain(box, pem(root.issue(ask(box).public_key())), untrusted_root=root.pem)
    before = shown(box)
    clock.advance(61 * DAY)

    first, second = tls.rotate(box), tls.rotate(box)

    assert "request" in first.made
    assert second.made == ()
    assert shown(box) == before
    tls_facility.import_chain(box, pem(root.issue(ask(box).public_key(), begins=clock.now())))
    assert shown(box) != before


def test_a_lost_own_authority_never_puts_the_boxes_own_in_the_facilitys_place(
    tmp_path: Path, clock: FixedClock
) -> None:
    box, root = here(site(tmp_path, authority="facility"), clock=clock), authority()
    tls.rotate(box)
    tls_facility.import_chain(box, pem(root.issue(ask(box).public_key())), untrusted_root=root.pem)
    before = shown(box)
    (box.folder.path / "ca.key").unlink()
    clock.advance(61 * DAY)

    assert tls.rotate(box).made == ("ca", "request", "crl")
    assert shown(box) == before


def vouches(box: Here) -> bool:
    """Whether the file that callers are given vouches for what they are shown."""
    given = x509.load_pem_x509_certificates((box.folder.path / "trust.crt").read_bytes())
    return any(certificates.is_issued_by(shown(box), one) for one in given)


def said(box: Here) -> dict[str, tuple[bool | None, str]]:
    return {one.name: (one.is_good, one.text) for one in tls_standing.findings(box.config, clock=box.clock)}


@pytest.mark.parametrize("imported_before", [False, True])
def test_a_lost_authority_whose_certificate_is_shown_until_the_facilitys_is_there_is_replaced_at_once(
    tmp_path: Path,
    clock: FixedClock,
    imported_before: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    box, root = here(site(tmp_path, authority="facility"), clock=clock), authority()
    tls.rotate(box)
    if imported_before:
        tls_facility.import_chain(box, pem(root.issue(ask(box).public_key())), untrusted_root=root.pem)
        tls.rotate(here(site(tmp_path), clock=clock))
    (box.folder.path / "ca.key").unlink()

    dry, done = tls.rotate(box, dry_run=True), tls.rotate(box)

    assert dry.made == done.made == ("ca", "server", "crl")
    assert done.why == "authority"
    assert vouches(box)
    assert said(box)["certificate"] == (True, "ends in 90 days")
    text = "its certificate is not here yet: the box shows one of its own"
    assert said(box)["facility's CA"] == (None, text)
    assert tls.rotate(box).made == ()
    clock.advance(61 * DAY)
    assert "server" in tls.rotate(box).made
    assert box.folder.request() is None


def test_a_certificate_that_nobody_vouches_for_is_no_good_one_and_not_the_facilitys(tmp_path: Path) -> None:
    """Scenario: another authority signs already, and the web server would not show a certificate of it."""
    box = here(site(tmp_path, authority="facility"))
    tls.rotate(box)
    (box.folder.path / "ca.key").unlink()
    assert isinstance(box.server, Server)
    box.server.is_broken = True
    with pytest.raises(UnitError):
        tls.rotate(box)

    is_good, text = said(box)["certificate"]
    assert is_good is False
    assert text.endswith("neither this box's authority nor the facility's made it")
    assert said(box)["facility's CA"][0] is None
    box.server.is_broken = False
    tls.revoke(box, serial_of(shown(box)), Reason.SUPERSEDED)
    assert vouches(box)


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("step", ["put_root", "tell_whom_to_trust", "drop_pending"])
def test_an_import_that_is_cut_off_never_lets_the_box_fall_back_to_its_own(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_first: bool,  # noqa: FBT001 - a parameter of the table
    step: str,
) -> None:
    box, root = here(site(tmp_path, authority="facility")), authority("Next Root")
    tls.rotate(box)
    if not is_first:
        before = authority()
        tls_facility.import_chain(box, pem(before.issue(ask(box).public_key())), untrusted_root=before.pem)
    made = root.issue(ask(box).public_key())

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as power:
        power.setattr(TlsFolder, step, cut)
        with pytest.raises(KeyboardInterrupt):
            tls_facility.import_chain(box, pem(made), untrusted_root=root.pem)

    assert tls.rotate(box).made == ()
    assert shown(box) == made
    assert said(box)["facility's CA"] == (None, "a request waits")
    tls_facility.import_chain(box, pem(made), untrusted_root=root.pem)
    assert vouches(box)
    assert said(box)["facility's CA"] == (True, "vouches for this box")


@pytest.mark.parametrize("lost", ["facility-root.crt", "trust.crt"])
def test_a_lost_root_or_link_does_not_make_the_facilitys_certificate_another(
    tmp_path: Path, clock: FixedClock, lost: str
) -> None:
    box, root = here(site(tmp_path, authority="facility"), clock=clock), authority()
    tls.rotate(box)
    upper = root.below()
    lower = upper.below("Lower CA")
    made = lower.issue(ask(box).public_key())
    chain = pem(made, upper.certificate, lower.certificate)
    tls_facility.import_chain(box, chain, untrusted_root=root.pem)
    (box.folder.path / lost).unlink()

    assert tls.rotate(box).made == ()
    assert box.folder.gives_facilitys()
    assert said(box)["certificate"][0] is True
    assert said(box)["facility's CA"] == (
        (None, "its root here does not vouch for what the box shows")
        if lost == "facility-root.crt"
        else (True, "vouches for this box")
    )
    clock.advance(100 * DAY)
    assert "server" not in tls.rotate(box).made
    assert shown(box) == made


def test_a_request_is_made_once_and_again_for_other_names_with_the_same_key(tmp_path: Path, box: Here) -> None:
    tls.rotate(box)
    first, second = ask(box), ask(box)
    third = ask(here(site(tmp_path, hostname="other.example")))

    assert first == second
    assert third.public_key() == first.public_key()
    assert third != first


def test_a_certificate_without_a_request_or_without_a_root_is_refused(tmp_path: Path) -> None:
    box, root = here(site(tmp_path, authority="facility")), authority()
    tls.rotate(box)
    with pytest.raises(NotInstalledError):
        tls_facility.import_chain(box, root.pem, untrusted_root=root.pem)
    made = root.issue(ask(box).public_key())

    with pytest.raises(CertificateRefusedError, match="root is not known"):
        tls_facility.import_chain(box, pem(made))
    assert shown(box) != made


def test_a_dry_import_changes_nothing(tmp_path: Path) -> None:
    box, root = here(site(tmp_path, authority="facility")), authority()
    tls.rotate(box)
    before, records = shown(box), len(kinds(box))
    made = root.issue(ask(box).public_key())

    tls_facility.import_chain(box, pem(made), untrusted_root=root.pem, dry_run=True)

    assert (shown(box), len(kinds(box)) - records) == (before, 1)  # the request's
    assert box.folder.root() is None


def test_findings_tell_late_from_due_and_a_stale_list(tmp_path: Path, clock: FixedClock) -> None:
    box = here(site(tmp_path, clients="required"), clock=clock)
    tls.rotate(box)

    def verdicts() -> dict[str, bool | None]:
        return {one.name: one.is_good for one in tls_standing.findings(box.config, clock=clock)}

    assert verdicts() == {"certificate": True, "authority": True, "revocation list": True}
    clock.advance(15 * DAY)
    assert verdicts()["revocation list"] is False
    clock.advance(50 * DAY)
    assert verdicts()["certificate"] is True
    clock.advance(5 * DAY)
    assert verdicts()["certificate"] is False


def test_nothing_is_found_where_no_tls_is_served(tmp_path: Path, clock: FixedClock) -> None:
    plain = site(tmp_path).model_copy(update={"service": site(tmp_path).service.model_copy(update={"tls": False})})

    assert list(tls_standing.findings(plain, clock=clock)) == []


def test_roots_differ(tmp_path: Path) -> None:
    box, root, other = here(site(tmp_path, authority="facility")), authority(), authority("Facility Root")
    tls.rotate(box)
    assert isinstance(root, Authority)
    tls_facility.import_chain(box, pem(root.issue(ask(box).public_key())), untrusted_root=root.pem)
    tls_facility.request(box)

    with pytest.raises(CertificateRefusedError, match="does not lead"):
        tls_facility.import_chain(box, pem(other.issue(ask(box).public_key())))
