"""Judges a certificate that the facility's authority made for this box, completely, before it is put in place.

Each rule is asked on its own, so that a refusal says which one; then `cryptography` builds the path (RFC 5280, section
6, with the web's rules on top), and that decides.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.errors import CertificateRefusedError
from appliance.install.certificates import RENEW_DAYS, SERVER_DAYS, Moment, first_end
from media.clock import to_text

_MOST_BYTES: Final = 64 * 1024
_MOST: Final = 8
_LEAST_RSA_BITS: Final = 2048
_MOST_DAYS: Final = 398
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_ASK: Final = "ask the facility's authority for another one: `sealift tls request` prints the request again"

_UNREADABLE: Final = (
    *(ValueError, TypeError, UnsupportedAlgorithm, CryptographyDeprecationWarning),
    *(x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)
_Kind = TypeVar("_Kind", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A chain that may be put in place, and what a person should know of it."""

    certificate: x509.Certificate
    between: tuple[x509.Certificate, ...]
    remarks: tuple[str, ...]


def read_chain(untrusted: bytes) -> list[x509.Certificate]:
    """Parse certificates as PEM.

    Raises:
        CertificateRefusedError: There is none, too much, something else, or a private key.
    """
    if b"PRIVATE KEY" in untrusted:
        _refuse(
            "there is a private key in the file", "a key never travels; this box has made its own", "destroy the file"
        )
    if len(untrusted) > _MOST_BYTES:
        _refuse("the file is too large", f"the limit is {_MOST_BYTES} bytes", "give the certificate and those between")
    try:
        with warnings.catch_warnings():
            # What the library only warns of (a serial that is not positive) breaks RFC 5280 too.
            warnings.simplefilter("error", CryptographyDeprecationWarning)
            found = x509.load_pem_x509_certificates(untrusted)
            for each in found:
                _read_whole(each)
    except _UNREADABLE as error:
        raise CertificateRefusedError(
            what="the file holds no certificate that reads",
            why="PEM is expected (-----BEGIN CERTIFICATE-----), and in it keys and extensions that RFC 5280 knows",
            fix="convert it: openssl x509 -inform DER -in FILE, or openssl pkcs7 -print_certs -in FILE",
        ) from error
    if len(found) > _MOST:
        _refuse("the file holds too many certificates", f"{len(found)}, at most {_MOST}", _ASK)
    return found


def read_root(untrusted: bytes, moment: Moment) -> x509.Certificate:
    """Parse the facility's root: one certificate that signed itself and may sign others.

    Raises:
        CertificateRefusedError: It is not one.
    """
    found = read_chain(untrusted)
    if len(found) != 1:
        _refuse("the root is one certificate", f"{len(found)} are in the file", "give the root alone")
    root = found[0]
    _require_strong(root, "the root", with_signature=False)
    _require_valid(root, "the root", moment)
    constraints = _extension(root, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        _refuse("the root is no authority", "basicConstraints do not say CA", "give the facility's root")
    try:
        root.verify_directly_issued_by(root)
    except (InvalidSignature, *_UNREADABLE) as error:
        raise CertificateRefusedError(
            what="the root did not sign itself", why="it is a certificate between", fix="give the facility's root"
        ) from error
    return root


def judge(
    chain: Sequence[x509.Certificate],
    *,
    key: ec.EllipticCurvePublicKey,
    hostname: str,
    names: Sequence[x509.GeneralName],
    root: x509.Certificate,
    moment: Moment,
) -> Judged:
    """Return the chain when every rule holds.

    Args:
        chain: The certificates as they came, in any order.
        key: The public half of the key that waits on this box.
        hostname: The name that callers ask for.
        names: All names and addresses of the box.
        root: Whom the facility trusts.
        moment: The clock and the floor.

    Raises:
        CertificateRefusedError: A rule does not hold.
        ClockUncertainError: The clock is wrong, so that nothing can be said of dates.
    """
    moment.require_plausible()
    own = [one for one in chain if one.public_key() == key]
    if len(own) != 1:
        _refuse("no certificate in the file is for the key on this box", f"{len(own)} of {len(chain)} have it", _ASK)
    leaf = own[0]
    between = tuple(one for one in chain if one is not leaf and one != root)
    for each, what in ((leaf, "the certificate"), *((one, "a certificate between") for one in between)):
        _require_strong(each, what, with_signature=True)
        _require_valid(each, what, moment)
    _require_valid(root, "the facility's root", moment)
    if (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days > _MOST_DAYS:
        _refuse("the certificate lives too long", f"more than {_MOST_DAYS} days; {SERVER_DAYS} are asked for", _ASK)
    _require_names(leaf, hostname)
    _require_purpose(leaf)
    _require_path(leaf, between, root, hostname=hostname, moment=moment)
    return Judged(certificate=leaf, between=between, remarks=tuple(_remarks(leaf, between, names, moment)))


def require_strong_key(key: object, what: str) -> None:
    """Return when a public key is of a kind and size that lasts (NIST SP 800-131A, SP 800-186).

    Raises:
        CertificateRefusedError: It is not.
    """
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _LEAST_RSA_BITS:
            _refuse(f"{what} has a weak key", f"RSA of {key.key_size} bits, at least {_LEAST_RSA_BITS}", _ASK)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, _CURVES):
            _refuse(f"{what} has a weak key", f"curve {key.curve.name}, expected P-256, P-384 or P-521", _ASK)
    elif not isinstance(key, ed25519.Ed25519PublicKey):
        _refuse(f"{what} has a key of another kind", "expected RSA, ECDSA or Ed25519", _ASK)


def _read_whole(certificate: x509.Certificate) -> None:
    """Touch every part that is parsed only when it is asked for, so that what is malformed shows here."""
    certificate.public_key()
    list(certificate.extensions)
    _ = (certificate.subject, certificate.issuer, certificate.serial_number, certificate.signature_hash_algorithm)
    _ = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def _require_strong(certificate: x509.Certificate, what: str, *, with_signature: bool) -> None:
    require_strong_key(certificate.public_key(), what)
    digest = certificate.signature_hash_algorithm if with_signature else None
    if digest is not None and not isinstance(digest, _HASHES):
        _refuse(f"{what} is signed weakly", f"with {digest.name}, expected SHA-256, SHA-384 or SHA-512", _ASK)


def _require_valid(certificate: x509.Certificate, what: str, moment: Moment) -> None:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if begins > moment.now:
        _refuse(
            f"{what} is not valid yet",
            f"it begins {to_text(begins)}, this machine's clock says {to_text(moment.now)}",
            "compare the machine's clock with another one; then wait, or ask for another certificate",
        )
    if ends <= max(moment.now, moment.floor):
        _refuse(f"{what} has expired", f"it ended {to_text(ends)}", _ASK)


def _require_names(leaf: x509.Certificate, hostname: str) -> None:
    names = _extension(leaf, x509.SubjectAlternativeName)
    found = [] if names is None else names.get_values_for_type(x509.DNSName)
    if hostname.lower() not in [one.lower() for one in found]:
        why = f"it names {', '.join(found)[:200] or 'nobody'}, expected {hostname}"
        _refuse("the certificate is for another name", why, _ASK)


def _require_purpose(leaf: x509.Certificate) -> None:
    constraints, usage = _extension(leaf, x509.BasicConstraints), _extension(leaf, x509.KeyUsage)
    purposes = _extension(leaf, x509.ExtendedKeyUsage)
    if constraints is not None and constraints.ca:
        _refuse("the certificate is an authority's", "a server's may not sign others", _ASK)
    if usage is not None and (not usage.digital_signature or usage.key_cert_sign):
        _refuse("the certificate may not be used for TLS", "keyUsage lacks digitalSignature, or signs others", _ASK)
    if purposes is None or ExtendedKeyUsageOID.SERVER_AUTH not in purposes:
        _refuse("the certificate is not for a server", "extendedKeyUsage lacks serverAuth", _ASK)


def _require_path(
    leaf: x509.Certificate,
    between: Sequence[x509.Certificate],
    root: x509.Certificate,
    *,
    hostname: str,
    moment: Moment,
) -> None:
    policy = verification.PolicyBuilder().store(verification.Store([root])).time(moment.now).max_chain_depth(_MOST)
    try:
        verifier = policy.build_server_verifier(x509.DNSName(hostname))
    except ValueError as error:  # boxes of before may bear underscores, or an address
        raise CertificateRefusedError(
            what="no authority's certificate can be judged for this box's name",
            why=f"{hostname} is no name of letters, digits, hyphens and dots",
            fix="give it another one: `service.hostname` in the site file, `sealift install`, `sealift tls request`",
        ) from error
    try:
        verifier.verify(leaf, list(between))
    except verification.VerificationError as error:
        raise CertificateRefusedError(
            what="the certificate does not lead to the facility's root",
            why=str(error)[:300],
            fix="give the certificates between in the same file, or the right root with --root",
        ) from error


def _remarks(
    leaf: x509.Certificate, between: Sequence[x509.Certificate], names: Sequence[x509.GeneralName], moment: Moment
) -> list[str]:
    remarks = []
    found = _extension(leaf, x509.SubjectAlternativeName)
    missing = [str(one.value) for one in names if found is None or one not in list(found)]
    if missing:
        remarks.append(f"does not name {', '.join(missing)}: callers have to use the names that it has")
    ends = first_end((leaf, *between))
    left = (ends - moment.now).days
    if left <= RENEW_DAYS and ends < leaf.not_valid_after_utc:
        remarks.append(f"a certificate between ends in {left} days already: ask for one under its next one now")
    elif left <= RENEW_DAYS:
        remarks.append(f"ends in {left} days already: ask for the next one now")
    if (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days > SERVER_DAYS + 1:
        remarks.append(f"lives longer than {SERVER_DAYS} days")
    return remarks


def _extension(certificate: x509.Certificate, kind: type[_Kind]) -> _Kind | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, ValueError):
        return None


def _refuse(what: str, why: str, fix: str) -> NoReturn:
    raise CertificateRefusedError(what=what, why=why, fix=fix)
