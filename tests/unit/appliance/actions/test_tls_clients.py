"""Callers' certificates: issued from their own request, bound to a key, listed as they stand, taken back for good."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from appliance.actions import tls, tls_clients
from appliance.actions.tls_placing import Here
from appliance.errors import CertificateRefusedError, ConflictError, KeyMissingError, StoreDamagedError, UnitError
from appliance.install.revocation import Reason, Revocations, read_crl
from media.clock import FixedClock
from tests.support.tls import NOW, here, key_pem, name_of, site


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(at=NOW)


@pytest.fixture
def box(tmp_path: Path, clock: FixedClock) -> Here:
    made = here(site(tmp_path, clients="required"), clock=clock)
    tls.rotate(made)
    return made


def request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    made = x509.CertificateSigningRequestBuilder().subject_name(name_of("root")).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


def test_of_a_request_only_the_key_is_taken(box: Here) -> None:
    key = ec.generate_private_key(ec.SECP256R1())

    made = tls_clients.issue(box, name="emr-1", untrusted_request=request(key))

    certificate = x509.load_pem_x509_certificate(made.pem)
    assert made.key_pem is None
    assert certificate.public_key() == key.public_key()
    assert certificate.subject.rfc4514_string() == "CN=emr-1"


def test_a_key_that_is_made_here_is_given_once_and_not_kept(box: Here) -> None:
    made = tls_clients.issue(box, name="emr-1", key_id="ABCDEFGH23")

    assert made.key_pem is not None
    kept = b"".join(path.read_bytes() for path in box.folder.path.rglob("*") if path.is_file())
    assert made.key_pem.splitlines()[1] not in kept
    body = box.ledger.find(kind=tls_clients.ISSUED, limit=1)[0].body
    assert (body["name"], body["key_id"], body["serial"]) == ("emr-1", "ABCDEFGH23", made.client.serial)
    assert "PRIVATE" not in str(body)


@pytest.mark.parametrize(
    ("untrusted", "said"),
    [
        (b"nonsense", "does not read"),
        (b"", "does not read"),
        (key_pem(ec.generate_private_key(ec.SECP256R1())), "private key"),
        (request(rsa.generate_private_key(public_exponent=65537, key_size=1024)), "weak"),  # noqa: S505 - what is refused
        (request(ec.generate_private_key(ec.SECP256K1())), "weak"),
    ],
    ids=["junk", "empty", "a key", "small RSA", "another curve"],
)
def test_a_request_that_is_none_or_weak_is_refused(box: Here, untrusted: bytes, said: str) -> None:
    with pytest.raises(CertificateRefusedError, match=said):
        tls_clients.issue(box, name="emr-1", untrusted_request=untrusted)
    assert tls_clients.clients(box) == []


def test_a_request_that_another_key_signed_is_refused(box: Here) -> None:
    pem = request(ec.generate_private_key(ec.SECP256R1()))
    raw = bytearray(x509.load_pem_x509_csr(pem).public_bytes(serialization.Encoding.DER))
    raw[raw.index(b"root")] ^= 1
    changed = x509.load_der_x509_csr(bytes(raw)).public_bytes(serialization.Encoding.PEM)

    with pytest.raises(CertificateRefusedError, match="not signed by its own key"):
        tls_clients.issue(box, name="emr-1", untrusted_request=changed)


def test_a_dry_run_issues_nothing(box: Here) -> None:
    tls_clients.issue(box, name="emr-1", dry_run=True)

    assert tls_clients.clients(box) == []
    assert box.ledger.find(kind=tls_clients.ISSUED) == []


def test_a_name_holds_two_valid_certificates_at_most(box: Here, clock: FixedClock) -> None:
    tls_clients.issue(box, name="emr-1")
    tls_clients.issue(box, name="emr-1", days=30)
    with pytest.raises(ConflictError):
        tls_clients.issue(box, name="emr-1")
    clock.advance(31 * 86400)

    tls_clients.issue(box, name="emr-1")

    assert sorted(one.state for one in tls_clients.clients(box)) == ["ended", "valid", "valid"]


def test_a_name_is_taken_back_with_all_its_certificates_and_others_stay(box: Here) -> None:
    for name in ("emr-1", "emr-1", "lab"):
        tls_clients.issue(box, name=name)

    gone = tls_clients.revoke(box, "emr-1", Reason.CESSATION)

    crl = read_crl(box.folder)
    assert crl is not None
    assert {f"{one.serial_number:x}" for one in crl} == {one.serial for one in gone}
    assert {(one.name, one.state) for one in tls_clients.clients(box)} == {("emr-1", "revoked"), ("lab", "valid")}
    assert len(box.ledger.find(kind=tls.REVOKED)) == 2


def test_a_serial_is_known_as_other_programs_print_it(box: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryptography.x509.random_serial_number", lambda: 0xABC)
    tls_clients.issue(box, name="emr-1")

    (gone,) = tls_clients.revoke(box, "0A:BC", Reason.SUPERSEDED)

    assert (gone.name, gone.serial) == ("emr-1", "abc")


def test_what_is_taken_back_stays_taken_back_through_every_rotation(box: Here, clock: FixedClock) -> None:
    tls_clients.issue(box, name="emr-1")
    (gone,) = tls_clients.revoke(box, "emr-1", Reason.KEY_COMPROMISE)
    for _ in range(5):
        clock.advance(20 * 86400)
        tls.rotate(box)

    crl = read_crl(box.folder)
    assert crl is not None
    assert crl.get_revoked_certificate_by_serial_number(int(gone.serial, 16)) is not None


@pytest.mark.parametrize("by", ["name", "serial"])
def test_a_revocation_that_did_not_reach_the_web_server_reaches_it_when_it_is_said_again(
    box: Here, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = tls_clients.issue(box, name="emr-1").client
    told: list[bytes] = []

    def refuses() -> bool:
        raise UnitError(what="the web server did not read its files again", why="", fix="")

    def reads() -> bool:
        told.append(box.folder.crl_file.read_bytes())
        return True

    monkeypatch.setattr(box.server, "reload", refuses)
    with pytest.raises(UnitError):
        tls_clients.revoke(box, "emr-1", Reason.KEY_COMPROMISE)
    monkeypatch.setattr(box.server, "reload", reads)
    if by == "name":
        tls_clients.revoke(box, "emr-1", Reason.KEY_COMPROMISE)
    else:
        tls.revoke(box, issued.serial, Reason.KEY_COMPROMISE)

    crl = read_crl(box.folder)
    assert crl is not None
    assert crl.get_revoked_certificate_by_serial_number(int(issued.serial, 16)) is not None
    assert told == [box.folder.crl_file.read_bytes()]
    assert len(box.ledger.find(kind=tls.REVOKED)) == 1


def test_of_two_who_take_back_at_once_neither_loses_an_entry(box: Here) -> None:
    names = [f"emr-{number}" for number in range(6)]
    for name in names:
        tls_clients.issue(box, name=name)

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: tls_clients.revoke(box, name, Reason.KEY_COMPROMISE), names))

    crl = read_crl(box.folder)
    assert crl is not None
    assert {one.name for one in tls_clients.clients(box) if one.state == "revoked"} == set(names)
    assert len(list(crl)) == len(names)


def test_a_dry_run_takes_nothing_back(box: Here) -> None:
    tls_clients.issue(box, name="emr-1")

    tls_clients.revoke(box, "emr-1", Reason.SUPERSEDED, dry_run=True)

    assert [one.state for one in tls_clients.clients(box)] == ["valid"]


def test_a_damaged_list_makes_nobody_valid(box: Here) -> None:
    (box.folder.path / "revoked.json").unlink()
    (box.folder.path / "revoked.json").write_text('{"format":1,"number":0,"revoked":[{}]}')

    with pytest.raises(StoreDamagedError):
        tls_clients.clients(box)
    with pytest.raises(StoreDamagedError):
        tls.rotate(box)


def test_the_list_reads_as_it_was_written(box: Here) -> None:
    tls_clients.issue(box, name="emr-1")
    tls_clients.revoke(box, "emr-1", Reason.KEY_COMPROMISE)

    (one,) = Revocations.load(box.folder).revoked
    assert (one.at, one.reason) == (NOW, Reason.KEY_COMPROMISE)


def test_without_an_authority_nothing_is_issued(tmp_path: Path) -> None:
    with pytest.raises(KeyMissingError):
        tls_clients.issue(here(site(tmp_path)), name="emr-1")
