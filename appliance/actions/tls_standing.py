"""How certificates stand: for `sealift tls show`, the doctor and monitoring. Reads what everyone may read, no key.

Rules:
 * 30 days left: due; 21: late, since it should have been renewed by itself; ended: callers refuse to connect.
 * A revocation list that has ended makes nginx refuse every client certificate; one with under 16 days was forgotten.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509

from appliance.actions import tls_facility
from appliance.actions.findings import Finding
from appliance.actions.tls import FACILITY
from appliance.actions.tls_placing import facts_of, is_for
from appliance.config import Config
from appliance.install import certificates, revocation, tlsauthorities, tlskey
from appliance.install.supervisor import is_booted_box
from appliance.install.tlsfolder import TlsFolder
from media.clock import Clock, to_text
from media.errors import SealiftError

_LATE_DAYS: Final = 21
_CRL_LATE_DAYS: Final = 16
# A year to bring the next one to every caller: some are machines that are touched once in a year.
_CHANGE_DAYS: Final = 365
_ROTATE: Final = "see `journalctl -u sealift-tls@due`, then `sealift tls rotate`"


def left(config: Config, *, clock: Clock) -> dict[str, timedelta]:
    """Return how long `server`, `authority` and `crl` still hold; what is absent is missing."""
    folder, now, found = TlsFolder.of(config), clock.now(), {}
    if (shown := folder.shown()) is not None:
        found["server"] = shown.ends_at - now
    if (authority := _authority(folder)) is not None:
        found["authority"] = authority.not_valid_after_utc - now
    if (crl := revocation.read_crl(folder)) is not None:
        found["crl"] = revocation.ends_at(crl) - now
    return found


def standing(config: Config, *, clock: Clock) -> dict[str, Any]:
    """Return the facts of `sealift tls show --json`."""
    folder = TlsFolder.of(config)
    shown, authority, root, crl = folder.shown(), _authority(folder), folder.root(), revocation.read_crl(folder)
    request = folder.request()
    return {
        "authority": config.tls.authority,
        "clients": config.tls.clients,
        "server": None if shown is None else facts_of(shown.certificate),
        "own_authority": None if authority is None else facts_of(authority),
        "facility_root": None if root is None else facts_of(root),
        "request_waits": request is not None,
        "crl": None if crl is None else {"revoked": len(list(crl)), "ends": to_text(revocation.ends_at(crl))},
        "left_days": {name: span // timedelta(days=1) for name, span in left(config, clock=clock).items()},
    }


def findings(config: Config, *, clock: Clock) -> Iterator[Finding]:
    """Yield what is good and what is not; nothing where this site serves no TLS."""
    if not config.service.tls:
        return
    folder, now = TlsFolder.of(config), clock.now()
    yield _server(config, folder, now)
    if is_booted_box(config) and folder.shown() is not None:
        yield _key(folder)
    if config.tls.authority == FACILITY:
        yield _facility(folder)
    if (authority := _authority(folder)) is not None:
        days = (authority.not_valid_after_utc - now).days
        yield Finding(
            name="authority",
            is_good=days > certificates.SERVER_DAYS and (days > _CHANGE_DAYS or None),
            text=f"ends in {days} days",
            why="what it signs ends with it, and callers have to be given the next one",
            fix="`sealift tls authority next`, which callers are given beside this one; see docs/operator/tls.md",
        )
    for which, fix in (
        (tlsauthorities.NEXT, "when every caller was given both: `sealift tls authority switch`"),
        (tlsauthorities.FORMER, "when every caller has a certificate of the new one: `sealift tls authority finish`"),
    ):
        if tlsauthorities.certificate(folder, which) is not None:
            yield Finding(name="authority change", is_good=None, text=f"a {which} one is trusted too", fix=fix)
    if config.tls.are_certificates_asked_for:
        yield _crl(folder, now)


def _server(config: Config, folder: TlsFolder, now: datetime) -> Finding:
    name, why = "certificate", "callers refuse to connect, or learn to ignore warnings"
    if (shown := folder.shown()) is None:
        return Finding(name=name, is_good=False, text="there is none", why=why, fix="run `sealift tls rotate`")
    certificate = shown.certificate
    days, host = (shown.ends_at - now).days, config.service.hostname
    is_named = is_for(certificate, config)
    is_facilitys = tls_facility.is_shown(folder)
    is_known = is_facilitys or _is_own(folder, certificate)
    has_begun = certificate.not_valid_before_utc <= now
    text = f"ends in {days} days" if days >= 0 else "has ended"
    if shown.ends_at < certificate.not_valid_after_utc:
        text += ", with the first of those between"
    if not is_named:
        text += f", and does not name {host}"
    if not is_known:
        text += ", and neither this box's authority nor the facility's made it"
    if not has_begun:
        text += f", and begins only {to_text(certificate.not_valid_before_utc)}: a clock is wrong"
    is_late = days < _LATE_DAYS
    return Finding(
        name=name,
        is_good=is_named and is_known and has_begun and not is_late,
        text=text,
        why=why,
        fix="carry the request to the facility's authority: `sealift tls request`"
        if config.tls.authority == FACILITY and is_facilitys
        else _ROTATE,
    )


def _key(folder: TlsFolder) -> Finding:
    wrong = tlskey.wrong(folder.shown_key_file)
    return Finding(
        name="certificate key",
        is_good=not wrong,
        text=wrong or "root writes it, and the web server reads it",
        why="the web server is not root: it could not start, or take up the next certificate; or others read the key",
        fix="run `sealift tls rotate` as root, then `systemctl reload-or-restart nginx`",
    )


def _facility(folder: TlsFolder) -> Finding:
    is_shown = tls_facility.is_shown(folder)
    is_vouched_for = tls_facility.is_vouched_for(folder)
    if is_shown and is_vouched_for and folder.request() is None:
        return Finding(name="facility's CA", is_good=True, text="vouches for this box")
    text = "a request waits" if folder.request() is not None else "its root here does not vouch for what the box shows"
    return Finding(
        name="facility's CA",
        is_good=None,
        text=text if is_shown else "its certificate is not here yet: the box shows one of its own",
        fix="`sealift tls request --out FILE`; have it signed; `sealift tls import CHAIN --root ROOT`",
    )


def _is_own(folder: TlsFolder, certificate: x509.Certificate) -> bool:
    """Tell whether an authority of the box that callers are given made it; a former one did after a cut-off switch."""
    given = (_authority(folder), tlsauthorities.certificate(folder, tlsauthorities.FORMER))
    return any(one is not None and certificates.is_issued_by(certificate, one) for one in given)


def _crl(folder: TlsFolder, now: datetime) -> Finding:
    crl, days = revocation.read_crl(folder), -1
    try:
        if crl is not None:
            days = (revocation.ends_at(crl) - now).days
        text = "there is none" if crl is None else f"ends in {days} days" if days >= 0 else "has ended"
    except SealiftError as error:
        text = error.what
    return Finding(
        name="revocation list",
        is_good=days >= _CRL_LATE_DAYS,
        text=text,
        why="past its end every client certificate is refused",
        fix=_ROTATE,
    )


def _authority(folder: TlsFolder) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(folder.authority_file.read_bytes())
    except (OSError, ValueError):
        return None
