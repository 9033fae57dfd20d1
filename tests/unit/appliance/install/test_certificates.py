"""The box's own certificates: made once, renewed in time, for the site's own names, with keys for root alone."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from appliance.config import Config, NetworkSection, PlacesSection, ServiceSection
from appliance.install.certificates import ensure
from media.clock import FixedClock


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(at=datetime(2026, 11, 20, tzinfo=UTC))


def config(root: Path, *, hostname: str = "llm.hospital.example", addresses: tuple[str, ...] = ("10.0.0.7",)) -> Config:
    return Config(
        site="ward-7",
        places=PlacesSection(root=str(root)),
        service=ServiceSection(hostname=hostname),
        network=NetworkSection(addresses=list(addresses)),
    )


def server(root: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((root / "etc/sealift/tls/server.crt").read_bytes())


def test_a_server_certificate_is_made_that_its_own_authority_signed(tmp_path: Path, clock: FixedClock) -> None:
    made = ensure(config(tmp_path), clock=clock)

    authority = x509.load_pem_x509_certificate((tmp_path / "etc/sealift/tls/ca.crt").read_bytes())
    shown = server(tmp_path)
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert made == ["ca", "server"]
    shown.verify_directly_issued_by(authority)
    assert names.get_values_for_type(x509.DNSName) == ["llm.hospital.example"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7"]
    assert shown.not_valid_after_utc - clock.now() == timedelta(days=90)
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_keys_are_for_root_alone_and_certificates_for_everyone(tmp_path: Path, clock: FixedClock) -> None:
    ensure(config(tmp_path), clock=clock)

    folder = tmp_path / "etc/sealift/tls"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"ca.key": 0o400, "ca.crt": 0o444, "server.key": 0o400, "server.crt": 0o444}


def test_a_second_run_makes_nothing(tmp_path: Path, clock: FixedClock) -> None:
    ensure(config(tmp_path), clock=clock)

    assert ensure(config(tmp_path), clock=clock) == []


@pytest.mark.parametrize(("days", "made"), [(59, []), (61, ["server"])])
def test_a_certificate_is_renewed_in_its_last_thirty_days(
    tmp_path: Path, clock: FixedClock, days: int, made: list[str]
) -> None:
    ensure(config(tmp_path), clock=clock)
    clock.advance(days * 86400)

    assert ensure(config(tmp_path), clock=clock) == made


def test_another_name_or_address_gets_another_certificate_from_the_same_authority(
    tmp_path: Path, clock: FixedClock
) -> None:
    ensure(config(tmp_path), clock=clock)
    before = (tmp_path / "etc/sealift/tls/ca.crt").read_bytes()

    renamed = ensure(config(tmp_path, hostname="other.example"), clock=clock)
    moved = ensure(config(tmp_path, hostname="other.example", addresses=("10.0.0.8", "fd00::8")), clock=clock)

    assert (renamed, moved) == (["server"], ["server"])
    assert (tmp_path / "etc/sealift/tls/ca.crt").read_bytes() == before


def test_a_key_that_does_not_belong_to_its_certificate_is_made_anew(tmp_path: Path, clock: FixedClock) -> None:
    ensure(config(tmp_path), clock=clock)
    folder = tmp_path / "etc/sealift/tls"
    (folder / "server.key").unlink()
    (folder / "server.key").write_bytes((folder / "ca.key").read_bytes())

    assert ensure(config(tmp_path), clock=clock) == ["server"]
