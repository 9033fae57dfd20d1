"""Certificates of calling applications (mTLS): issued by the box's own authority, listed, taken back.

A certificate may go with one API key; then the gateway takes that key from its holder only. Issuing is recorded before
the certificate exists for anybody. A caller's private key is best made where it is used, and only its request brought.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import NameOID

from appliance.actions import tls
from appliance.actions.tls_placing import Here, facts_of
from appliance.errors import CertificateRefusedError, ConflictError, KeyMissingError, StoreDamagedError
from appliance.install import certcheck, certificates
from appliance.install.certificates import Credential, serial_of
from appliance.install.revocation import Reason, Revocations
from appliance.install.tlsfolder import TlsFolder
from media import durable
from media.clock import to_text
from media.errors import UsageError

ISSUED: Final = "tls.client-issued"
_MOST_REQUEST: Final = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One certificate of a caller as it stands: `state` is valid, ended or revoked."""

    serial: str
    name: str
    key_id: str
    not_after: str
    state: str

    def to_json(self) -> dict[str, str]:
        """Return the fields."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A new certificate as PEM, with the private key where the box made it, which the box does not keep."""

    client: Client
    pem: bytes
    key_pem: bytes | None


def issue(
    here: Here,
    *,
    name: str,
    key_id: str = "",
    untrusted_request: bytes | None = None,
    days: int = certificates.CLIENT_DAYS,
    dry_run: bool = False,
) -> Issued:
    """Issue a certificate to a calling application.

    Args:
        here: What it works with.
        name: The application, e.g. ``emr-1``; one name may hold two while it changes from one to the next.
        key_id: The API key that it goes with.
        untrusted_request: The application's own request (PEM); of it only the public key is taken.
        days: How long it lives.
        dry_run: Judge the request and the names, and issue nothing.

    Raises:
        UsageError: A name or the days are not in their form.
        CertificateRefusedError: The request does not read, is not signed by its key, or the key is weak.
        ConflictError: Two that are valid bear this name already.
        KeyMissingError: There is no authority, or this user is not root.
        ClockUncertainError, LedgerUnavailableError: As `tls.rotate`.
    """
    moment, folder = here.moment(), here.folder
    authority = folder.authority()
    if authority is None:
        raise KeyMissingError(what="this box has no authority yet", why="", fix="run `sealift tls rotate`")
    if sum(one.name == name and one.state == "valid" for one in clients(here)) >= 2:
        raise ConflictError(
            what=f"{name} has two valid certificates already",
            why="one in use and one to change to are enough",
            fix="take one back: `sealift tls clients revoke SERIAL --reason superseded`",
        )
    key = ec.generate_private_key(ec.SECP256R1()) if untrusted_request is None else None
    public_key = key.public_key() if key is not None else _key_of(untrusted_request or b"")
    made = certificates.make_client(authority, public_key, name=name, key_id=key_id, days=days, moment=moment)
    client = _client(made, Revocations(), now_text="")
    if not dry_run:
        here.record(ISSUED, {**facts_of(made), "names": [], "name": name, "key_id": key_id})
        folder.make()
        pem = made.public_bytes(serialization.Encoding.PEM)
        durable.replace(folder.path / "clients" / f"{client.serial}.crt", pem, mode=0o444)
    whole = Credential(key=key, certificate=made) if key is not None else None
    return Issued(
        client=client,
        pem=made.public_bytes(serialization.Encoding.PEM),
        key_pem=whole.key_pem if whole is not None else None,
    )


def clients(here: Here) -> list[Client]:
    """Return every certificate that was issued to a caller, by name, the newest last.

    Raises:
        StoreDamagedError: What was issued, or the list of revoked certificates, cannot be read.
    """
    listed, now = Revocations.load(here.folder), to_text(here.clock.now())
    found = [_client(one, listed, now_text=now) for one in issued(here.folder)]
    return sorted(found, key=lambda one: (one.name, one.not_after, one.serial))


def revoke(here: Here, which: str, reason: Reason, *, dry_run: bool = False) -> list[Client]:
    """Take back one certificate by its serial, or every valid one of a name; return which.

    Where none is valid any more, those that were taken back are handed to the web server again: see `tls.revoke`.

    Raises:
        UsageError: No certificate that is valid or was taken back bears that serial or name.
        As `tls.revoke`.
    """
    # Programs print serials in capitals, with colons, and with a digit more where ours has an odd number of them.
    serial = which.lower().replace(":", "").lstrip("0")
    named = [one for one in clients(here) if which.lower() == one.name or serial == one.serial]
    found = [one for one in named if one.state == "valid"] or [one for one in named if one.state == "revoked"]
    if not found:
        raise UsageError(
            what=f"no valid client certificate is called {which[:64]}",
            why="neither a serial nor a name",
            fix="see `sealift tls clients list`",
        )
    for one in found:
        tls.revoke(here, one.serial, reason, dry_run=dry_run)
    return found


def issued(folder: TlsFolder) -> Iterator[x509.Certificate]:
    """Yield every certificate that was issued to a caller and is kept here.

    Raises:
        StoreDamagedError: One cannot be read, so that nobody could say whose it is.
    """
    try:
        kept = [path.read_bytes() for path in sorted((folder.path / "clients").iterdir()) if path.suffix == ".crt"]
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreDamagedError(
            what="the certificates of callers cannot be read",
            why=type(error).__name__,
            fix="look at the folder tls/clients in /etc/sealift, and at the disk",
        ) from error
    for pem in kept:
        with suppress(ValueError):  # cut off before it was given to anybody
            yield x509.load_pem_x509_certificate(pem)


def name_of(certificate: x509.Certificate) -> str:
    """Return which application a certificate was issued to."""
    return _attribute(certificate, NameOID.COMMON_NAME)


def _client(certificate: x509.Certificate, listed: Revocations, *, now_text: str) -> Client:
    ends, serial = to_text(certificate.not_valid_after_utc), serial_of(certificate)
    return Client(
        serial=serial,
        name=name_of(certificate),
        key_id=_attribute(certificate, NameOID.USER_ID),
        not_after=ends,
        state="revoked" if listed.holds(serial) else "ended" if now_text and ends <= now_text else "valid",
    )


def _attribute(certificate: x509.Certificate, kind: x509.ObjectIdentifier) -> str:
    found = certificate.subject.get_attributes_for_oid(kind)
    return str(found[0].value) if found else ""


def _key_of(untrusted: bytes) -> CertificatePublicKeyTypes:
    fix = "make it again, e.g.: openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN=NAME"
    if b"PRIVATE KEY" in untrusted:
        raise CertificateRefusedError(
            what="there is a private key in the file", why="a key never travels", fix="give the request alone"
        )
    try:
        request = x509.load_pem_x509_csr(untrusted[:_MOST_REQUEST])
        is_signed = request.is_signature_valid
        key = request.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateRefusedError(what="the request does not read", why="PEM is expected", fix=fix) from error
    if not is_signed:
        raise CertificateRefusedError(what="the request is not signed by its own key", why="", fix=fix)
    certcheck.require_strong_key(key, "the request")
    return key
