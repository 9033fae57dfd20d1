"""Whose client certificate ends is told in time, by number and by name, and of no application that has a later one."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from appliance.actions import doctor, tls, tls_authority, tls_clients, tls_clients_standing
from appliance.actions.findings import Finding
from appliance.actions.observed import observed
from appliance.actions.tls_placing import Here
from appliance.errors import StoreDamagedError
from appliance.install.revocation import Reason
from media.clock import FixedClock
from tests.support.tls import pem
from tests.unit.appliance.actions.test_tls_clients import box, clock

__all__ = ["box", "clock"]  # fixtures
DAY = 86400
LEFT = "sealift_client_certificate_left_seconds"
NAME = "client certificates"


def numbers(box: Here) -> dict[str, float]:
    found = observed(box.config, ledger=box.ledger, supervisor=None, clock=box.clock)
    return {one.labels.get("part", one.name): one.value for one in found}


def looked(box: Here) -> Finding:
    (found,) = tls_clients_standing.findings(box.config, clock=box.clock)
    return found


def days(box: Here) -> float | None:
    left = numbers(box).get(LEFT)
    return None if left is None else left / DAY


def test_the_first_to_end_is_counted_and_every_late_one_is_named(box: Here, clock: FixedClock) -> None:
    tls_clients.issue(box, name="lab", days=90)
    tls_clients.issue(box, name="emr-2", days=35)
    tls_clients.issue(box, name="emr-1", days=30)

    assert (days(box), looked(box).is_good) == (30, True)
    assert looked(box).text == "the first of 3 ends in 30 days: emr-1"
    clock.advance(16 * DAY)
    assert (days(box), looked(box).is_good) == (14, True)
    clock.advance(5 * DAY)
    said = "emr-1 ends in 9 days (2026-12-20T12:00:00Z)"
    assert (days(box), looked(box).is_good, looked(box).text) == (9, False, said)
    clock.advance(DAY)

    said = "emr-1 ends in 8 days (2026-12-20T12:00:00Z), emr-2 ends in 13 days (2026-12-25T12:00:00Z)"
    assert (days(box), looked(box).is_good, looked(box).text) == (8, False, said)


def test_a_later_one_of_the_same_name_ends_it_and_counts_no_more_when_it_is_taken_back(
    box: Here, clock: FixedClock
) -> None:
    tls_clients.issue(box, name="emr-1", days=20)
    clock.advance(10 * DAY)
    assert (days(box), looked(box).is_good) == (10, False)

    later = tls_clients.issue(box, name="emr-1").client
    assert (days(box), looked(box).is_good) == (90, True)

    tls.revoke(box, later.serial, Reason.KEY_COMPROMISE)
    assert (days(box), looked(box).is_good) == (10, False)
    tls_clients.revoke(box, "emr-1", Reason.CESSATION)
    assert (days(box), looked(box).is_good) == (None, None)


def test_one_that_has_ended_is_told_of_for_two_weeks_more_or_until_it_is_taken_back(
    box: Here, clock: FixedClock
) -> None:
    for name in ("emr-1", "lab"):
        tls_clients.issue(box, name=name, days=20)
    clock.advance(21 * DAY)

    assert days(box) == -1
    ended = "has ended (2026-12-10T12:00:00Z)"
    assert (looked(box).text, looked(box).is_good) == (f"emr-1 {ended}, lab {ended}", False)

    gone = next(one.serial for one in tls_clients.clients(box) if one.name == "lab")
    tls.revoke(box, gone, Reason.SUPERSEDED)
    assert looked(box).text == f"emr-1 {ended}"
    clock.advance(13 * DAY)
    assert (days(box), looked(box).is_good) == (None, None)


def test_what_an_authority_signed_that_is_trusted_no_more_counts_for_nobody(box: Here, clock: FixedClock) -> None:
    tls_clients.issue(box, name="emr-1", days=366)
    tls_authority.begin(box)
    tls_authority.switch(box)
    tls_clients.issue(box, name="emr-1", days=20)
    assert days(box) == 366

    tls_authority.finish(box, drop_clients=True)

    assert days(box) == 20
    clock.advance(10 * DAY)
    assert looked(box).is_good is False


def test_of_many_ten_are_named(box: Here, clock: FixedClock) -> None:
    for number in range(12):
        tls_clients.issue(box, name=f"emr-{number:02}", days=5)

    assert looked(box).text.count("ends in 5 days") == 10
    assert looked(box).text.endswith(" and 2 more")


@pytest.mark.parametrize("damaged", ["clients", "revoked.json"])
def test_what_cannot_be_read_is_never_taken_for_health(box: Here, damaged: str) -> None:
    tls_clients.issue(box, name="emr-1")
    place = box.folder.path / damaged
    place.rename(place.with_suffix(".aside"))
    place.write_text("no folder, and no list")

    assert numbers(box)["clients"] == 1
    assert looked(box).is_good is False
    with pytest.raises(StoreDamagedError):
        tls_clients.clients(box)


def test_one_that_was_cut_off_before_anybody_had_it_is_passed_over(box: Here) -> None:
    tls_clients.issue(box, name="emr-1")
    (box.folder.path / "clients/00.crt").write_text("-----BEGIN CERT")

    assert [one.name for one in tls_clients.clients(box)] == ["emr-1"]
    assert (numbers(box)["clients"], days(box)) == (0, 90)


def test_monitorings_user_may_read_all_of_it(box: Here) -> None:
    tls_clients.issue(box, name="emr-1")
    tls_authority.begin(box)
    folder = box.folder.path

    read = [folder / name for name in ("ca.crt", "next/ca.crt", "revoked.json", *_issued(folder))]
    assert len(read) == 4
    assert all(path.stat().st_mode & 0o004 and path.parent.stat().st_mode & 0o005 == 0o005 for path in read)


def _issued(folder: Path) -> Iterator[str]:
    return (f"clients/{path.name}" for path in (folder / "clients").iterdir())


@pytest.mark.parametrize(("section", "field", "value"), [("tls", "clients", "off"), ("service", "tls", False)])
def test_nothing_is_told_where_no_certificate_is_asked_for(box: Here, section: str, field: str, value: object) -> None:
    tls_clients.issue(box, name="emr-1", days=5)
    part = getattr(box.config, section).model_copy(update={field: value})
    plain = box.config.model_copy(update={section: part})

    assert list(tls_clients_standing.findings(plain, clock=box.clock)) == []
    assert tls_clients_standing.left(plain, clock=box.clock) is None


@pytest.mark.parametrize("port", ["management", "monitoring"])
def test_what_the_page_or_whoever_reads_numbers_shows_counts_as_well(box: Here, port: str) -> None:
    tls_clients.issue(box, name="iris")
    asked = box.config.tls.model_copy(update={"clients": "off", port: "required"})

    found = numbers(replace(box, config=box.config.model_copy(update={"tls": asked})))

    assert {"sealift_client_certificate_left_seconds", "sealift_revocation_list_left_seconds"} <= set(found)


def test_a_certificate_that_names_no_signer_is_in_force_nowhere(box: Here) -> None:
    authority = box.folder.authority()
    assert authority is not None
    made = x509.load_pem_x509_certificate(tls_clients.issue(box, name="emr-1", days=5).pem)
    kept = next((box.folder.path / "clients").iterdir())
    bare = (
        x509.CertificateBuilder()
        .subject_name(made.subject)
        .issuer_name(made.issuer)
        .public_key(made.public_key())
        .serial_number(made.serial_number)
        .not_valid_before(made.not_valid_before_utc)
        .not_valid_after(made.not_valid_after_utc)
        .sign(authority.key, hashes.SHA384())
    )
    kept.unlink()
    kept.write_bytes(pem(bare))

    assert days(box) is None


def test_the_doctor_says_whose_and_when(box: Here, clock: FixedClock) -> None:
    tls_clients.issue(box, name="emr-1", days=5)

    found, _ = doctor.doctor(box.config, clock=clock)

    assert [one.text for one in found if one.name == NAME] == ["emr-1 ends in 5 days (2026-11-25T12:00:00Z)"]
