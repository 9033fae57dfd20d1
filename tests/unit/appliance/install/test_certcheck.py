"""What the facility's authority made is judged rule by rule: each fault alone refuses it, and says which it is."""

import shutil
import ssl
import subprocess
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from appliance.errors import CertificateRefusedError, ClockUncertainError
from appliance.install import certcheck
from appliance.install.certificates import Moment
from tests.support.tls import HOST, NOW, Authority, authority, key_pem, pem

KEY: Final = ec.generate_private_key(ec.SECP256R1())
ROOT: Final = authority()
MOMENT: Final = Moment(now=NOW, floor=NOW - timedelta(days=30))
NAMES: Final = [x509.DNSName(HOST)]


def judge(*chain: x509.Certificate, root: Authority = ROOT, moment: Moment = MOMENT) -> certcheck.Judged:
    return certcheck.judge(
        chain, key=KEY.public_key(), hostname=HOST, names=NAMES, root=root.certificate, moment=moment
    )


def made(by: Authority = ROOT, **changes: Any) -> x509.Certificate:
    return by.issue(changes.pop("key", KEY.public_key()), **changes)


def refused(*chain: x509.Certificate, root: Authority = ROOT) -> str:
    with pytest.raises(CertificateRefusedError) as caught:
        judge(*chain, root=root)
    return f"{caught.value.what}: {caught.value.why}"


def test_a_certificate_right_below_the_root_and_one_below_others_are_taken() -> None:
    issuing = ROOT.below("Policy CA").below("Issuing CA", begins=NOW - timedelta(days=3))
    policy = ROOT.below("Other CA")
    below = policy.below("Lower CA")

    assert judge(made()).remarks == ()
    assert judge(made(below), below.certificate, policy.certificate).between == (below.certificate, policy.certificate)
    assert "does not lead" in refused(made(issuing), issuing.certificate)


def test_the_order_of_the_file_and_the_root_in_it_do_not_matter() -> None:
    issuing = ROOT.below()
    leaf = made(issuing)

    found = judge(ROOT.certificate, issuing.certificate, leaf)

    assert (found.certificate, found.between) == (leaf, (issuing.certificate,))


def named(hostname: str, name: str) -> certcheck.Judged:
    """Judge a certificate for a name on a box that bears another one, or writes it otherwise."""
    leaf = made(names=(name,))
    return certcheck.judge(
        [leaf],
        key=KEY.public_key(),
        hostname=hostname,
        names=[x509.DNSName(hostname)],
        root=ROOT.certificate,
        moment=MOMENT,
    )


@pytest.mark.parametrize("name", ["LLM.hospital.example", "llm.hospital.example"])
def test_a_box_that_bears_capitals_is_named_in_whichever(name: str) -> None:
    assert named("LLM.hospital.example", name).certificate is not None


@pytest.mark.parametrize("hostname", ["llm_box.hospital.example", "-llm.hospital.example"])
def test_a_name_that_no_authority_can_vouch_for_is_said(hostname: str) -> None:
    with pytest.raises(CertificateRefusedError, match="no authority's certificate can be judged"):
        named(hostname, hostname)


FAULTS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "another key": ({"key": ec.generate_private_key(ec.SECP256R1()).public_key()}, "for the key on this box"),
    "expired": ({"begins": NOW - timedelta(days=90), "days": 90}, "has expired"),
    "not yet valid": ({"begins": NOW + timedelta(seconds=1)}, "not valid yet"),
    "another name": ({"names": ("other.example",)}, "another name"),
    "no name": ({"names": ()}, "another name"),
    "a wildcard": ({"names": ("*.hospital.example",)}, "another name"),
    "a client's": ({"purposes": (ExtendedKeyUsageOID.CLIENT_AUTH,)}, "not for a server"),
    "no purpose": ({"purposes": ()}, "not for a server"),
    "an authority's": ({"is_authority": True, "names": (HOST,)}, "an authority's"),
    "no digital signature": ({"digital_signature": False}, "may not be used for TLS"),
    "too long": ({"days": 400}, "lives too long"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_refuses_it_and_is_named(fault: str) -> None:
    changes, said = FAULTS[fault]

    assert said in refused(made(**changes))


def test_the_wrong_authority_is_refused_also_when_it_has_the_right_name() -> None:
    imposter = authority()
    assert imposter.certificate.subject == ROOT.certificate.subject

    assert "does not lead" in refused(made(imposter))


def test_of_a_chain_whose_middle_ends_first_a_person_is_told() -> None:
    """Scenario: the facility renews its issuing authority yearly, and signs with the old one in its last days."""
    issuing = ROOT.below(days=11)

    (remark,) = judge(made(issuing), issuing.certificate).remarks

    assert remark.startswith("a certificate between ends in 10 days")


def test_an_authority_between_that_has_ended_or_is_none_is_refused() -> None:
    ended = ROOT.below(begins=NOW - timedelta(days=90), days=89)
    none = Authority(key=KEY, certificate=ROOT.issue(KEY.public_key(), names=("ca.example",)))
    leaf_key = ec.generate_private_key(ec.SECP256R1())

    assert "a certificate between has expired" in refused(made(ended), ended.certificate)
    with pytest.raises(CertificateRefusedError, match="does not lead"):
        certcheck.judge(
            [none.issue(leaf_key.public_key()), none.certificate],
            key=leaf_key.public_key(),
            hostname=HOST,
            names=NAMES,
            root=ROOT.certificate,
            moment=MOMENT,
        )


def test_weak_keys_and_signatures_are_refused_wherever_they_are() -> None:
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - what is refused
    weak = ROOT.below("Weak CA", key=small)

    assert "RSA of 1024 bits" in refused(made(weak), weak.certificate)
    assert "expected P-256" in refused(
        made(), ROOT.below("Odd CA", key=ec.generate_private_key(ec.SECP256K1())).certificate
    )


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is absent")
def test_a_signature_with_sha_1_is_refused(tmp_path: Path) -> None:
    leaf = signed_with_sha1(tmp_path)  # valid from this machine's own now on

    with pytest.raises(CertificateRefusedError, match="signed weakly"):
        judge(leaf, moment=Moment(now=datetime.now(tz=UTC) + timedelta(minutes=1), floor=NOW - timedelta(days=30)))


def signed_with_sha1(folder: Path) -> x509.Certificate:
    """Return what our own library refuses to make: a certificate for the key, signed with SHA-1."""
    (folder / "root.key").write_bytes(key_pem(ROOT.key))
    (folder / "root.crt").write_bytes(ROOT.pem)
    (folder / "leaf.key").write_bytes(key_pem(KEY))
    (folder / "ext").write_text(
        f"subjectAltName=DNS:{HOST}\nextendedKeyUsage=serverAuth\nkeyUsage=digitalSignature\nbasicConstraints=CA:FALSE\n"
    )
    request = ["openssl", "req", "-new", "-key", "leaf.key", "-subj", "/CN=x", "-out", "leaf.csr"]
    sign = [
        "openssl",
        "x509",
        "-req",
        "-in",
        "leaf.csr",
        "-CA",
        "root.crt",
        "-CAkey",
        "root.key",
        "-sha1",
        "-days",
        "9",
    ]
    for command in (request, [*sign, "-extfile", "ext", "-CAcreateserial", "-out", "leaf.crt"]):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return x509.load_pem_x509_certificate((folder / "leaf.crt").read_bytes())


def test_a_wrong_clock_judges_nothing() -> None:
    with pytest.raises(ClockUncertainError):
        judge(made(), moment=Moment(now=NOW, floor=NOW + timedelta(days=1)))


def test_the_floor_counts_as_time_that_has_passed() -> None:
    leaf = made(begins=NOW - timedelta(days=10), days=9)

    with pytest.raises(CertificateRefusedError, match="expired"):
        judge(leaf, moment=Moment(now=NOW, floor=NOW))


def test_what_is_only_odd_is_remarked() -> None:
    long = judge(made(days=300)).remarks
    short = judge(made(days=20)).remarks

    assert ["lives longer" in one for one in long] == [True]
    assert ["ask for the next" in one for one in short] == [True]


def test_a_private_key_a_root_of_two_and_a_root_that_is_none_are_refused() -> None:
    other = authority()
    between = ROOT.below()
    for untrusted, said in (
        (pem(ROOT.certificate, other.certificate), "one certificate"),
        (pem(made()), "no authority"),
        (pem(between.certificate), "did not sign itself"),
        (key_pem(KEY) + ROOT.pem, "private key"),
    ):
        with pytest.raises(CertificateRefusedError, match=said):
            certcheck.read_root(untrusted, MOMENT)
    assert certcheck.read_root(ROOT.pem, MOMENT) == ROOT.certificate


def test_a_root_that_has_ended_or_is_weak_is_refused() -> None:
    ended = authority(begins=NOW - timedelta(days=20), days=10)
    weak = authority(key=rsa.generate_private_key(public_exponent=65537, key_size=1024))  # noqa: S505 - what is refused

    for one, said in ((ended, "expired"), (weak, "weak key")):
        with pytest.raises(CertificateRefusedError, match=said):
            certcheck.read_root(one.pem, MOMENT)


@settings(max_examples=50)
@given(st.binary(max_size=400))
def test_whatever_bytes_come_they_are_read_or_refused(junk: bytes) -> None:
    for untrusted in (junk, ROOT.pem[:300] + junk, b"-----BEGIN CERTIFICATE-----\n" + junk):
        try:
            found = certcheck.read_chain(untrusted)
        except CertificateRefusedError as error:
            assert error.fix  # noqa: PT017 - either way of ending is right
        else:
            assert found


_ONCE: Final = made()


# A changed byte may be of a form that the library only warns of yet, a negative serial number among them.
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.filterwarnings("ignore:Attribute's length must be:UserWarning")
@settings(max_examples=60)
@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_a_changed_certificate_is_never_taken(place: int, change: int) -> None:
    raw = bytearray(_ONCE.public_bytes(serialization.Encoding.DER))
    raw[place % len(raw)] ^= change
    pem = ssl.DER_cert_to_PEM_cert(bytes(raw)).encode()
    # A bit that a signature which ends in 0 may leave unused changes neither what is signed nor the signature.
    with suppress(ValueError, x509.InvalidVersion):
        read = x509.load_der_x509_certificate(bytes(raw))
        assume((read.tbs_certificate_bytes, read.signature) != (_ONCE.tbs_certificate_bytes, _ONCE.signature))

    with pytest.raises(CertificateRefusedError):
        judge(*certcheck.read_chain(pem))


def test_ed25519_authorities_are_judged_without_a_stumble() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    builder = (
        x509.CertificateBuilder()
        .subject_name(ROOT.certificate.subject)
        .issuer_name(ROOT.certificate.subject)
        .public_key(KEY.public_key())
        .serial_number(5)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(NAMES), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )

    assert "does not lead" in refused(builder.sign(key, None))
