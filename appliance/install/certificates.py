"""Makes keys and certificates: the box's own authority, what nginx shows, and what callers show; nothing is written.

Rules:
 * A key is made where it is used; of a caller's and of a facility's, only the request travels.
 * No certificate begins before the floor, and none is made while the clock is before it (RFC 5280, 4.1.2.5).
 * Servers and callers get different purposes (RFC 5280, 4.2.1.12), so that neither passes for the other.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.config import Config
from appliance.errors import ClockUncertainError
from media.clock import to_text
from media.errors import UsageError

AUTHORITY_DAYS: Final = 3650
SERVER_DAYS: Final = 90
RENEW_DAYS: Final = 30
CLIENT_DAYS: Final = 90
MOST_CLIENT_DAYS: Final = 366
_BACKDATED: Final = timedelta(hours=1)
_CLIENT: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_MOST_COMMON: Final = 64
"""Characters of a common name (RFC 5280, ub-common-name); a site's name and a host's may be longer."""
_NUMBERED: Final = re.compile(r", ([0-9]{1,4})$")
_KEY_ID: Final = re.compile(r"[A-Za-z2-7]{10}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A private key, its certificate, and the certificates between it and the authority that a caller knows."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    between: tuple[x509.Certificate, ...] = ()

    @property
    def key_pem(self) -> bytes:
        """The private key as PEM; for a file that root alone reads."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def chain_pem(self) -> bytes:
        """The certificate and those between, as a server sends them."""
        return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (self.certificate, *self.between))


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When something is made: what the clock says, and the time that is certain."""

    now: datetime
    floor: datetime

    def require_plausible(self) -> "Moment":
        """Return it when the clock can be right.

        Raises:
            ClockUncertainError: It is before a time that has already passed.
        """
        if self.now < self.floor:
            raise ClockUncertainError(
                what="no certificate is made while the clock is wrong",
                why=f"it says {to_text(self.now)}, which is before {to_text(self.floor)}",
                fix="put it right: `sealift clock set`; then run the command again",
            )
        return self

    @property
    def begins(self) -> datetime:
        """The first second of what is made now: an hour ago, for callers that are behind; never before the floor."""
        earliest = max(self.now - _BACKDATED, self.floor)
        return earliest.replace(microsecond=0) + timedelta(seconds=1) if earliest.microsecond else earliest


def names_of(config: Config) -> list[x509.GeneralName]:
    """Return what callers may call this box: its host name and its addresses."""
    return [
        x509.DNSName(config.service.hostname),
        *(x509.IPAddress(ip_address(address)) for address in config.network.addresses),
    ]


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate as lower-case hex; what tells it from any other."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def serial_of(certificate: x509.Certificate) -> str:
    """Return the serial number as lower-case hex, as CRLs, nginx and our records give it."""
    return f"{certificate.serial_number:x}"


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Tell whether an authority signed a certificate: its key did, not only somebody of its name."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def first_end(chain: Iterable[x509.Certificate]) -> datetime:
    """Return when the first of some certificates ends: of a chain, when callers begin to refuse it.

    Raises:
        ValueError: There are none.
    """
    return min(one.not_valid_after_utc for one in chain)


def leads_to(certificate: x509.Certificate, between: Sequence[x509.Certificate], root: x509.Certificate) -> bool:
    """Tell whether signatures lead from a certificate over those between to a root, whatever their dates."""
    reached = [certificate]
    for one in reached:  # grows: an authority may be there twice, by two that vouch for it
        if is_issued_by(one, root):
            return True
        reached += [above for above in between if above not in reached and is_issued_by(one, above)]
    return False


def make_authority(site: str, moment: Moment, *, after: x509.Certificate | None = None) -> Credential:
    """Make the box's own authority, for ten years: it signs leaves only (path length 0).

    Args:
        site: Whose.
        moment: When.
        after: The one that it follows. It gets another name, since lists of revoked certificates go by names.

    Raises:
        ClockUncertainError: The clock is wrong.
    """
    number = "" if after is None else f", {_generation(after) + 1}"
    common = f"Sealift CA of {site}"[: _MOST_COMMON - len(number)] + number
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Sealift"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )
    certificate = (
        _builder(name, name, key.public_key(), days=AUTHORITY_DAYS, moment=moment)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA384())
    )
    return Credential(key=key, certificate=certificate)


def _generation(authority: x509.Certificate) -> int:
    names = authority.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    found = _NUMBERED.search(str(names[0].value)) if names else None
    return int(found[1]) if found else 1


def make_server(config: Config, authority: Credential, moment: Moment) -> Credential:
    """Make a key and the certificate of this box for its names, for 90 days.

    Raises:
        ClockUncertainError: The clock is wrong.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    return Credential(
        key=key,
        certificate=_leaf(
            authority,
            _subject(config.service.hostname),
            key.public_key(),
            purposes=[ExtendedKeyUsageOID.SERVER_AUTH],
            names=names_of(config),
            days=SERVER_DAYS,
            moment=moment,
        ),
    )


def _subject(hostname: str) -> x509.Name:
    """Return the subject for a host; its names proper are the alternative ones, which have no such limit."""
    if len(hostname) > _MOST_COMMON:
        return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Sealift")])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname)])


def make_client(
    authority: Credential,
    public_key: CertificatePublicKeyTypes,
    *,
    name: str,
    key_id: str = "",
    days: int = CLIENT_DAYS,
    moment: Moment,
) -> x509.Certificate:
    """Return a certificate for a calling application; with `key_id` it goes with that API key and no other.

    Raises:
        UsageError: The name, the key id or the days are not in their form.
        ClockUncertainError: The clock is wrong.
    """
    if not _CLIENT.fullmatch(name) or (key_id and not _KEY_ID.fullmatch(key_id)):
        raise UsageError(
            what="that client cannot be named so",
            why="a name is lower-case letters, digits and hyphens; a key id the ten characters after sl-",
            fix="see `sealift keys list`",
        )
    if not 1 <= days <= MOST_CLIENT_DAYS:
        raise UsageError(
            what=f"{days} days are refused", why=f"1 to {MOST_CLIENT_DAYS}", fix="renew it in time instead"
        )
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if key_id:
        attributes.append(x509.NameAttribute(NameOID.USER_ID, key_id))
    return _leaf(
        authority,
        x509.Name(attributes),
        public_key,
        purposes=[ExtendedKeyUsageOID.CLIENT_AUTH],
        names=[x509.DNSName(f"{name}.client.invalid")],
        days=days,
        moment=moment,
    )


def make_request(config: Config, key: ec.EllipticCurvePrivateKey) -> x509.CertificateSigningRequest:
    """Return the request that the facility's authority signs (RFC 2986): this box's names, its purpose, its key."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_subject(config.service.hostname))
        .add_extension(x509.SubjectAlternativeName(names_of(config)), critical=False)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )


def _leaf(
    authority: Credential,
    subject: x509.Name,
    public_key: CertificatePublicKeyTypes,
    *,
    purposes: Sequence[x509.ObjectIdentifier],
    names: Sequence[x509.GeneralName],
    days: int,
    moment: Moment,
) -> x509.Certificate:
    issuer = authority.certificate
    return (
        _builder(subject, issuer.subject, public_key, days=days, moment=moment)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA384())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: CertificatePublicKeyTypes, *, days: int, moment: Moment
) -> x509.CertificateBuilder:
    moment.require_plausible()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment.begins)
        .not_valid_after(moment.now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
