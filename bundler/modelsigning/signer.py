"""Who signed a model: an elliptic curve key that the recipe names, or a certificate that leads to one it names.

Keys lie on NIST's P-256, P-384 or P-521 and sign with SHA-256, SHA-384 or SHA-512, as upstream does. Certificates are
judged at the moment from which the signer's one is valid: a signature outlives the certificate it was made with, and
the date is for people to look at. The operating system's own list of authorities is never asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from bundler.errors import SigningError, SourceError
from bundler.modelsigning.envelope import Bundle, pae
from media.digest import same

_HASHES: Final[dict[str, type[hashes.HashAlgorithm]]] = {
    "secp256r1": hashes.SHA256,
    "secp384r1": hashes.SHA384,
    "secp521r1": hashes.SHA512,
}
_PEM_BYTES: Final = 64 * 1024
_KNOWN_EXTENSIONS: Final = (
    x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectKeyIdentifier, x509.AuthorityKeyIdentifier,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Signatory:
    """Whose key made a signature that held. `key_sha256` is the hint that upstream's tool writes."""

    key_sha256: str
    certificate_sha256: str = ""
    subject: str = ""


def require_key(bundle: Bundle, pem: bytes) -> Signatory:
    """Return the signer when the signature is by this public key.

    Raises:
        SourceError: It is not, or the file holds no such key.
    """
    key = _public_key(pem)
    hint = key_hint(key)
    if bundle.chain or (bundle.key_hint and not same(bundle.key_hint, hint)):
        raise _unsigned(f"it was made with another key, {bundle.key_hint[:12] or 'by certificate'}")
    _verify(key, bundle)
    return Signatory(key_sha256=hint)


def require_certificate(bundle: Bundle, pem: bytes) -> Signatory:
    """Return the signer when the signature is by a certificate that is one of these, or leads to one of them.

    Raises:
        SourceError: It is not, or the chain breaks a rule.
    """
    try:
        trusted = x509.load_pem_x509_certificates(pem)
        chain = [x509.load_der_x509_certificate(der) for der in bundle.chain]
        if not chain:
            raise _unsigned("it carries no certificate")
        _require_path(chain, trusted)
        key = chain[0].public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
            raise _unsigned("the certificate's key is not on P-256, P-384 or P-521")
        _verify(key, bundle)
        return Signatory(
            key_sha256=key_hint(key),
            certificate_sha256=chain[0].fingerprint(hashes.SHA256()).hex(),
            subject=chain[0].subject.rfc4514_string()[:200],
        )
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        raise _unsigned("a certificate cannot be read") from error


def sign(
    payload: bytes, key_file: Path, *, password_file: Path | None = None, chain_file: Path | None = None
) -> Bundle:
    """Sign a statement; the same statement and key give the same bytes (RFC 6979).

    Args:
        payload: The statement.
        key_file: A private key in PEM that only its owner can read.
        password_file: Holds the key's password, where it has one.
        chain_file: Certificates in PEM, the signer's first, where they shall travel in the place of the key's hint.

    Raises:
        SigningError: The key cannot be used, or is not the certificate's.
    """
    try:
        if key_file.stat().st_mode & 0o077:
            raise SigningError(
                what="the private key is open to others", why="only its owner may read it", fix="chmod 600"
            )
        password = None if password_file is None else password_file.read_bytes()[:_PEM_BYTES].rstrip(b"\r\n")
        key = load_pem_private_key(key_file.read_bytes()[:_PEM_BYTES], password)
        chain = x509.load_pem_x509_certificates(chain_file.read_bytes()) if chain_file else []
    except OSError as error:
        raise SigningError(what="the private key cannot be read", why=error.strerror or "", fix="check it") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SigningError(
            what="the private key cannot be used", why="it is no PEM of a key, or the password is another", fix=""
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _HASHES:
        raise SigningError(
            what="the private key cannot sign models", why="it is not on P-256, P-384 or P-521", fix="make another"
        )
    if chain and chain[0].public_key() != key.public_key():
        raise SigningError(
            what="the first certificate is not that of the key", why="", fix="put the signer's certificate first"
        )
    made = key.sign(pae(payload), ec.ECDSA(_HASHES[key.curve.name](), deterministic_signing=True))
    return Bundle(
        payload=payload,
        signature=made,
        key_hint="" if chain else key_hint(key.public_key()),
        chain=tuple(each.public_bytes(Encoding.DER) for each in chain),
    )


def key_hint(key: ec.EllipticCurvePublicKey) -> str:
    """Return the SHA-256 of a key's PEM, as upstream names keys."""
    return sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _public_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unsigned("the key file holds no public key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        raise _unsigned("the key is not on P-256, P-384 or P-521")
    return key


def _verify(key: ec.EllipticCurvePublicKey, bundle: Bundle) -> None:
    try:
        key.verify(bundle.signature, bundle.signed_bytes, ec.ECDSA(_HASHES[key.curve.name]()))
    except InvalidSignature as error:
        raise _unsigned("the signature is not by this key over this statement") from error


def _require_path(chain: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate]) -> None:
    """Pass when each certificate was issued by the next, up to one that is trusted or that a trusted one issued."""
    when = chain[0].not_valid_before_utc
    for number, certificate in enumerate(chain):
        _require_fit(certificate, when, is_signer=number == 0, below=max(0, number - 1))
        if certificate in trusted:
            return
        for issuer in (*trusted, *chain[number + 1 : number + 2]):
            if not _is_issued(certificate, issuer):
                continue
            if issuer in trusted:
                _require_fit(issuer, when, is_signer=False, below=number)
                return
            break
        else:
            break
    raise _unsigned("its certificates lead to none that the recipe names")


def _is_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _require_fit(certificate: x509.Certificate, when: datetime, *, is_signer: bool, below: int) -> None:
    if not certificate.not_valid_before_utc <= when <= certificate.not_valid_after_utc:
        raise _unsigned("a certificate of the chain was not valid when the signer's one began")
    found = {type(each.value): each for each in certificate.extensions}
    if any(each.critical and kind not in _KNOWN_EXTENSIONS for kind, each in found.items()):
        raise _unsigned("a certificate has a critical extension that is not known here")
    usage = found.get(x509.KeyUsage)
    if is_signer:
        extended = found.get(x509.ExtendedKeyUsage)
        may_sign = usage is not None and usage.value.digital_signature
        if not may_sign and (extended is None or ExtendedKeyUsageOID.CODE_SIGNING not in extended.value):
            raise _unsigned("the signer's certificate is not for signing")
        return
    constraints = found.get(x509.BasicConstraints)
    if constraints is None or not constraints.value.ca:
        raise _unsigned("a certificate of the chain may not issue others")
    most = constraints.value.path_length
    if most is not None and below > most:
        raise _unsigned("the chain is longer than one of its certificates allows")
    if usage is not None and not usage.value.key_cert_sign:
        raise _unsigned("a certificate of the chain may not issue others")


def _unsigned(why: str) -> SourceError:
    return SourceError(
        what="the model signature does not hold", why=why, fix="find out from the publisher, by another way, why"
    )
