"""How callers' certificates stand: for the doctor and monitoring. Reads what everyone may read, no key.

Rules:
 * Of each name the one counts that ends last, among those that an authority in force signed and nobody took back.
 * 14 days left: somebody has to issue the next one and carry it there; nothing does that by itself.
 * One that has ended counts for 14 days more, so that no alert falls silent just when its application is refused.
   Whoever was not missed by then is gone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509

from appliance.actions import tls_clients
from appliance.actions.findings import Finding
from appliance.config import Config
from appliance.install import tlsauthorities
from appliance.install.certificates import serial_of
from appliance.install.revocation import Revocations
from appliance.install.tlsauthorities import FORMER, NEXT
from appliance.install.tlsfolder import TlsFolder, read_certificate
from media.clock import Clock, to_text
from media.errors import SealiftError

LATE: Final = timedelta(days=14)
_MISSED: Final = timedelta(days=14)
_MOST_NAMED: Final = 10
_NAME: Final = "client certificates"
_UNUSED: Final = "`sealift tls revoke SERIAL --reason superseded`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """Until when a calling application is let in."""

    name: str
    ends: datetime


def newest(config: Config, *, now: datetime) -> list[Newest]:
    """Return of each application when its last certificate ends, the soonest first; none where none are asked for.

    Raises:
        StoreDamagedError: What was issued, or the list of revoked certificates, cannot be read.
    """
    if not config.service.tls or not config.tls.are_certificates_asked_for:
        return []
    folder, ends = TlsFolder.of(config), dict[str, datetime]()
    revoked = {one.serial for one in Revocations.load(folder).revoked}
    authorities = _authorities(folder)
    for one in tls_clients.issued(folder):
        if serial_of(one) not in revoked and _signed_by(one) in authorities:
            name = tls_clients.name_of(one)
            ends[name] = max(ends.get(name, one.not_valid_after_utc), one.not_valid_after_utc)
    found = [Newest(name=name, ends=at) for name, at in ends.items() if at > now - _MISSED]
    return sorted(found, key=lambda one: (one.ends, one.name))


def left(config: Config, *, clock: Clock) -> timedelta | None:
    """Return how long the first of them is let in, below nothing when it is refused; None where there is none.

    Raises:
        StoreDamagedError: As `newest`.
    """
    now = clock.now()
    return next((one.ends - now for one in newest(config, now=now)), None)


def findings(config: Config, *, clock: Clock) -> Iterator[Finding]:
    """Yield whose certificate ends soon and when; nothing where none are asked for."""
    if not config.service.tls or not config.tls.are_certificates_asked_for:
        return
    now = clock.now()
    try:
        found = newest(config, now=now)
    except SealiftError as error:
        yield Finding(name=_NAME, is_good=False, text=error.what, why=error.why, fix=error.fix)
        return
    late = [one for one in found if one.ends - now < LATE]
    if not found:
        text = "no application has one"
    elif not late:
        text = f"the first of {len(found)} ends in {(found[0].ends - now).days} days: {found[0].name}"
    else:
        text = _named(late, now)
    yield Finding(
        name=_NAME,
        is_good=not late if found else None,
        text=text,
        why="an application is refused when its certificate has ended, and none is issued by itself",
        fix=f"issue the next one: `sealift tls clients issue`; where nobody uses it any more: {_UNUSED}",
    )


def _named(late: Sequence[Newest], now: datetime) -> str:
    said = [
        f"{one.name} {f'ends in {(one.ends - now).days} days' if one.ends > now else 'has ended'} ({to_text(one.ends)})"
        for one in late[:_MOST_NAMED]
    ]
    return ", ".join(said) + (f" and {len(late) - _MOST_NAMED} more" if len(late) > _MOST_NAMED else "")


def _authorities(folder: TlsFolder) -> set[bytes]:
    """Return the keys of those that nginx trusts, as what they signed names them."""
    found = (
        read_certificate(folder.authority_file),
        *(tlsauthorities.certificate(folder, which) for which in (NEXT, FORMER)),
    )
    keys = [x509.SubjectKeyIdentifier.from_public_key(one.public_key()) for one in found if one is not None]
    return {one.digest for one in keys}


def _signed_by(certificate: x509.Certificate) -> bytes | None:
    # What is read here root alone writes: its word is enough, and a signature takes a hundred times as long to check.
    try:
        return certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return None
