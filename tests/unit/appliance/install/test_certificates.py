"""Keys and certificates of the box's own authority: for whom, how long, and never from a wrong clock."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ClockUncertainError
from appliance.install import certificates
from appliance.install.certificates import Moment
from media.errors import UsageError
from tests.support.tls import NOW, site

MOMENT = Moment(now=NOW, floor=NOW - timedelta(days=10))


def purposes(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_a_server_certificate_names_the_box_and_is_signed_by_its_authority(tmp_path: Path) -> None:
    authority = certificates.make_authority("ward-7", MOMENT)
    made = certificates.make_server(site(tmp_path), authority, MOMENT).certificate

    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    made.verify_directly_issued_by(authority.certificate)
    assert names.get_values_for_type(x509.DNSName) == ["llm.hospital.example"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7"]
    assert made.not_valid_after_utc - NOW == timedelta(days=90)
    assert authority.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_the_longest_names_of_a_site_and_a_host_have_certificates(tmp_path: Path) -> None:
    long = ".".join(("llm", "w" * 63, "hospital", "internal"))
    config = site(tmp_path, hostname=long)
    first = certificates.make_authority("s" * 63, MOMENT)
    following = certificates.make_authority("s" * 63, MOMENT, after=first.certificate)
    third = certificates.make_authority("s" * 63, MOMENT, after=following.certificate)
    server = certificates.make_server(config, first, MOMENT).certificate
    request = certificates.make_request(config, ec.generate_private_key(ec.SECP256R1()))

    # Lists of revoked certificates go by the names of those who made them.
    assert len({one.certificate.subject for one in (first, following, third)}) == 3
    assert [one.certificate.subject.rfc4514_string()[:4] for one in (following, third)] == ["CN=S"] * 2
    assert third.certificate.subject.rfc4514_string().endswith("\\, 3,O=Sealift")
    server.verify_directly_issued_by(first.certificate)
    for one in (server, request):
        names = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [long]


def test_servers_and_callers_have_different_purposes(tmp_path: Path) -> None:
    authority = certificates.make_authority("ward-7", MOMENT)
    key = ec.generate_private_key(ec.SECP256R1())

    server = certificates.make_server(site(tmp_path), authority, MOMENT).certificate
    client = certificates.make_client(authority, key.public_key(), name="emr-1", key_id="ABCDEFGH23", moment=MOMENT)

    assert purposes(server) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert purposes(client) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert client.subject.rfc4514_string() == "UID=ABCDEFGH23,CN=emr-1"


@pytest.mark.parametrize("name", ["", "Emr", "a b", "a/CN=root", "x" * 64, "a,b", "-a"])
def test_a_name_that_could_be_read_as_more_than_a_name_is_refused(name: str) -> None:
    authority = certificates.make_authority("ward-7", MOMENT)

    with pytest.raises(UsageError):
        certificates.make_client(
            authority, ec.generate_private_key(ec.SECP256R1()).public_key(), name=name, moment=MOMENT
        )


@pytest.mark.parametrize("days", [0, 367])
def test_a_callers_certificate_lives_a_year_at_most(days: int) -> None:
    authority = certificates.make_authority("ward-7", MOMENT)
    key = ec.generate_private_key(ec.SECP256R1()).public_key()

    with pytest.raises(UsageError):
        certificates.make_client(authority, key, name="a", days=days, moment=MOMENT)


def test_nothing_is_made_while_the_clock_is_before_the_floor() -> None:
    with pytest.raises(ClockUncertainError, match="clock"):
        certificates.make_authority("s", Moment(now=NOW, floor=NOW + timedelta(seconds=1)))


_MOMENTS = st.datetimes(min_value=datetime(2026, 1, 1), max_value=datetime(2036, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone


@given(now=_MOMENTS, behind=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=400)))
def test_no_certificate_begins_before_the_floor_or_long_after_now(now: datetime, behind: timedelta) -> None:
    moment = Moment(now=now, floor=now - behind)

    assert moment.begins >= moment.floor
    assert moment.begins.microsecond == 0
    assert moment.begins <= now + timedelta(seconds=1)
