"""What the box's own authority takes back: a list that only grows, and the CRL that nginx reads (RFC 5280, section 5).

Promises: a certificate that is on the list stays on it; CRL numbers only rise; the CRL says the same as the list. A CRL
past its time makes nginx refuse every client certificate, so that it is made again weeks before.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from appliance.errors import CertificateRefusedError, StoreDamagedError
from appliance.install.certificates import Credential, Moment
from appliance.install.tlsfolder import TlsFolder
from media import canonical, durable
from media.clock import to_text
from media.errors import MediaError

CRL_DAYS: Final = 30
CRL_RENEW_DAYS: Final = 23
_FORMAT: Final = 1
_MOST: Final = 10_000
_PEM: Final = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----\n?", re.DOTALL)
_WHAT: Final = "The list of revoked certificates"


class Reason(StrEnum):
    """Why a certificate is taken back, in RFC 5280's words."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "key-compromise"
    SUPERSEDED = "superseded"
    CESSATION = "cessation-of-operation"


_FLAGS: Final = {
    Reason.KEY_COMPROMISE: x509.ReasonFlags.key_compromise,
    Reason.SUPERSEDED: x509.ReasonFlags.superseded,
    Reason.CESSATION: x509.ReasonFlags.cessation_of_operation,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """One certificate that was taken back; `serial` is lower-case hex."""

    serial: str
    at: datetime
    reason: Reason

    def to_json(self) -> dict[str, str]:
        """Return the fields."""
        return {"serial": self.serial, "at": to_text(self.at), "reason": str(self.reason)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocations:
    """The whole list, and the number of the last CRL that was made of it."""

    number: int = 0
    revoked: tuple[Revoked, ...] = ()

    @classmethod
    def load(cls, folder: TlsFolder) -> Self:
        """Read the list; an empty one where there is none.

        Raises:
            StoreDamagedError: It is there and does not read: nobody may then be taken for valid.
        """
        path = folder.path / "revoked.json"
        try:
            return cls._parse(canonical.loads(path.read_bytes()))
        except FileNotFoundError:
            return cls()
        except (OSError, MediaError, ValueError) as error:
            raise StoreDamagedError(
                what="the list of revoked certificates cannot be read",
                why=type(error).__name__,
                fix="write it again from the ledger's records tls.revoked, and tell who keeps this box",
            ) from error

    @classmethod
    def _parse(cls, untrusted: Any) -> Self:
        fields = canonical.exact_keys(untrusted, ("format", "number", "revoked"), what=_WHAT)
        canonical.integer(fields["format"], _WHAT, minimum=_FORMAT, maximum=_FORMAT)
        return cls(
            number=canonical.integer(fields["number"], _WHAT),
            revoked=tuple(_one(each) for each in canonical.array(fields["revoked"], _WHAT, most=_MOST)),
        )

    def save(self, folder: TlsFolder) -> None:
        """Replace the list on the disk."""
        fields = {"format": _FORMAT, "number": self.number, "revoked": [one.to_json() for one in self.revoked]}
        durable.replace(folder.path / "revoked.json", canonical.dumps(fields), mode=0o444)

    def holds(self, serial: str) -> bool:
        """Tell whether a certificate was taken back."""
        return any(one.serial == serial for one in self.revoked)

    def with_one(self, one: Revoked) -> Self:
        """Return the list with one more; the same where it holds that serial already."""
        return self if self.holds(one.serial) else replace(self, revoked=(*self.revoked, one))


@contextmanager
def alone(folder: TlsFolder) -> Iterator[None]:
    """Have the list for oneself, from reading it to `publish`: of two people who take back, neither loses an entry."""
    with folder.locked("revoked"):
        yield


def publish(folder: TlsFolder, listed: Revocations, authorities: Sequence[Credential], moment: Moment) -> Revocations:
    """Make the next CRL of a list for each authority, and put all in place; return the list with the CRLs' number.

    nginx asks for a list of every authority whose certificates it takes. Each names all serials that were taken back:
    they are random, so no authority has another's.

    Raises:
        ClockUncertainError: The clock is wrong.
    """
    moment.require_plausible()
    listed = replace(listed, number=listed.number + 1)
    made = b"".join(_made(listed, one, moment).public_bytes(serialization.Encoding.PEM) for one in authorities)
    # The list first: cut off between the two, the next rotation sees that the CRL is older, and makes it again.
    listed.save(folder)
    durable.replace(folder.crl_file, made, mode=0o444)
    return listed


def _made(listed: Revocations, authority: Credential, moment: Moment) -> x509.CertificateRevocationList:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(moment.begins)
        .next_update(moment.now + timedelta(days=CRL_DAYS))
        .add_extension(x509.CRLNumber(listed.number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    for one in listed.revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(int(one.serial, 16)).revocation_date(one.at)
        if one.reason in _FLAGS:
            entry = entry.add_extension(x509.CRLReason(_FLAGS[one.reason]), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(authority.key, hashes.SHA384())


def read_crl(folder: TlsFolder) -> x509.CertificateRevocationList | None:
    """Return the CRL in place of the authority that signs; nothing where there is none that reads."""
    return next(iter(read_crls(folder)), None)


def read_crls(folder: TlsFolder) -> tuple[x509.CertificateRevocationList, ...]:
    """Return every CRL in place; none where one does not read."""
    try:
        return tuple(x509.load_pem_x509_crl(text) for text in _PEM.findall(folder.crl_file.read_bytes()))
    except (OSError, ValueError):
        return ()


def ends_at(crl: x509.CertificateRevocationList) -> datetime:
    """Return when a CRL becomes stale."""
    if crl.next_update_utc is None:
        raise CertificateRefusedError(what="the CRL has no end", why="ours always have one", fix="`sealift tls rotate`")
    return crl.next_update_utc


def is_due(folder: TlsFolder, listed: Revocations, authorities: Sequence[Credential], now: datetime) -> bool:
    """Tell whether the CRLs have to be made again: absent, soon stale, of other authorities, or older than the list."""
    crls = read_crls(folder)
    if len(crls) != len(authorities):
        return True
    return any(_is_due(crl, listed, authority, now) for crl, authority in zip(crls, authorities, strict=True))


def _is_due(crl: x509.CertificateRevocationList, listed: Revocations, authority: Credential, now: datetime) -> bool:
    if not crl.is_signature_valid(authority.key.public_key()):
        return True
    said = {f"{one.serial_number:x}" for one in crl}
    return (
        ends_at(crl) - now <= timedelta(days=CRL_RENEW_DAYS)
        or said != {one.serial for one in listed.revoked}
        or _number(crl) != listed.number
    )


def _number(crl: x509.CertificateRevocationList) -> int:
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0


def _one(untrusted: Any) -> Revoked:
    fields = canonical.exact_keys(untrusted, ("serial", "at", "reason"), what=_WHAT)
    serial = canonical.text(fields["serial"], _WHAT)
    return Revoked(
        serial=f"{int(serial, 16):x}",
        at=canonical.moment(fields["at"], _WHAT),
        reason=canonical.one_of(fields["reason"], Reason, _WHAT),
    )
