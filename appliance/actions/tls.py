"""Certificates of this box: rotated at 60 of their 90 days, asked of the facility, judged, put in place, recorded.

    due -> key and certificate made -> recorded -> kept beside the one that is shown -> shown by one rename
        -> the web server reads it -> a new connection is shown it; if not, the one before is shown again

The one before stays valid for its last 30 days, so that nobody has to learn of the change; who is being
answered goes on being answered.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.actions import believing
from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.errors import CertificateRefusedError, KeyMissingError, NotInstalledError
from appliance.install import certcheck, certificates, revocation, webserver
from appliance.install.certificates import Credential, Moment, fingerprint, serial_of
from appliance.install.revocation import Reason, Revocations, Revoked
from appliance.install.supervisor import is_booted_box
from appliance.install.tlsfolder import Shown, TlsFolder
from appliance.install.webserver import Nginx, NoWebServer, WebServer
from appliance.timekeeping import record as clockrecord
from appliance.timekeeping.believed import require_certain
from appliance.verify import trust
from appliance.verify.trust import TrustRecord
from media.clock import Clock, to_text
from media.errors import SealiftError

AUTHORITY_MADE: Final = "tls.authority-made"
MADE: Final = "tls.certificate-made"
IMPORTED: Final = "tls.certificate-imported"
TAKEN_BACK: Final = "tls.rotation-failed"
REQUESTED: Final = "tls.requested"
REVOKED: Final = "tls.revoked"
CRL_MADE: Final = "tls.crl-made"
FACILITY: Final = "facility"


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What actions on certificates work with."""

    config: Config
    ledger: Ledger
    clock: Clock
    server: WebServer = field(default_factory=NoWebServer)

    @property
    def folder(self) -> TlsFolder:
        """This site's keys and certificates."""
        return TlsFolder.of(self.config)

    def moment(self) -> Moment:
        """Return the clock and the latest time known to have been, read once.

        Raises:
            ClockUncertainError: The clock is before it, or jumped.
        """
        places, record = self.config.at, TrustRecord(root_chain=())
        with suppress(SealiftError):
            record = trust.load(places.trust, places.pinned_trust, may_begin=True)
        floor = believing.floor(self.ledger, record, clockrecord.latest(places))
        if clockrecord.published(places) is not None:
            require_certain(places, self.clock, what="when a certificate begins")
        return Moment(now=self.clock.now(), floor=floor).require_plausible()

    def record(self, kind: str, body: Mapping[str, Any]) -> None:
        """Record before it is done.

        Raises:
            LedgerUnavailableError: It is not recorded, so it must not be done.
        """
        self.ledger.append(kind, body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """What a rotation made (`ca`, `server`, `request`, `crl`), and whether the web server was seen to show it."""

    made: tuple[str, ...]
    why: str
    fingerprint: str
    is_seen: bool = False
    forgotten: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the fields; `changed` is for the playbook."""
        return {**asdict(self), "changed": bool(self.made)}


def open_server(config: Config) -> WebServer:
    """Return nginx on a booted box, else nothing that could be told."""
    return Nginx(config.service.hostname) if is_booted_box(config) and config.service.tls else NoWebServer()


def why_due(config: Config, folder: TlsFolder, moment: Moment) -> str:
    """Return why the shown certificate has to be replaced: absent, authority, name or age; empty when it need not."""
    shown, authority = folder.shown(), folder.authority()
    if shown is None or not folder.is_whole():
        return "absent"
    is_own = authority is not None and shown.certificate.issuer == authority.certificate.subject
    if config.tls.authority != FACILITY and not is_own:
        return "authority"
    expected = certificates.names_of(config)
    # A facility's authority may leave addresses out; the host name is what people type.
    if _names(shown.certificate) != expected if is_own else expected[0] not in _names(shown.certificate):
        return "name"
    left = shown.certificate.not_valid_after_utc - moment.now
    return "age" if left <= timedelta(days=certificates.RENEW_DAYS) else ""


def rotate(here: Here, *, at_once: str = "", dry_run: bool = False) -> Rotated:
    """Make what is missing or due, and have the web server show it; a second run changes nothing.

    Args:
        here: What it works with.
        at_once: Replace the certificate now, for this reason, whether it is due or not.
        dry_run: Say what would be made, and make nothing.

    Raises:
        ClockUncertainError: The clock is wrong.
        LedgerUnavailableError: It could not be recorded; nothing was changed.
        UnitError: The web server does not show it; the one before is shown again.
        KeyMissingError: This user is not root.
    """
    folder, moment = here.folder, here.moment()
    made = [] if folder.authority() else ["ca"]
    why = at_once or why_due(here.config, folder, moment)
    is_facilitys = here.config.tls.authority == FACILITY and _is_facilitys(folder)
    if why:
        made += ["request"] if is_facilitys and folder.pending() is None else [] if is_facilitys else ["server"]
    if dry_run:
        shown = folder.shown()
        crl = ["crl"] if made[:1] == ["ca"] or _crl_is_due(folder, moment) else []
        return Rotated(made=(*made, *crl), why=why, fingerprint=fingerprint(shown.certificate) if shown else "")
    folder.make()
    authority = _authority(here, moment)
    listed = Revocations.load(folder)
    if is_due := revocation.is_due(folder, listed, authority, moment.now):
        here.record(CRL_MADE, {"number": listed.number + 1, "revoked": len(listed.revoked)})
        revocation.publish(folder, listed, authority, moment)
        made.append("crl")
    if "request" in made:
        request(here, moment=moment)
    is_seen = False
    if "server" in made:
        is_seen = _replace(
            here, certificates.make_server(here.config, authority, moment), kind=MADE, facts={"why": why}
        )
    elif is_due:
        is_seen = here.server.reload()
    found = folder.shown()
    return Rotated(
        made=tuple(made),
        why=why,
        fingerprint=fingerprint(found.certificate) if found else "",
        is_seen=is_seen,
        forgotten=tuple(folder.forget_ended(moment.now)),
    )


def request(here: Here, *, moment: Moment | None = None) -> x509.CertificateSigningRequest:
    """Return the request for the facility's authority; its key is made here, stays here, and is made once.

    Raises:
        LedgerUnavailableError: It could not be recorded; there is no request.
        KeyMissingError: This user is not root.
    """
    folder = here.folder
    waiting, key = folder.request(), folder.pending()
    names = certificates.names_of(here.config)
    if waiting is not None and key is not None and waiting.public_key() == key.public_key():
        if list(waiting.extensions.get_extension_for_class(x509.SubjectAlternativeName).value) == names:
            return waiting
    else:
        key = None
    moment = moment or here.moment()
    folder.make()
    key = key or ec.generate_private_key(ec.SECP256R1())
    made = certificates.make_request(here.config, key)
    here.record(REQUESTED, {"names": [str(one.value) for one in names], "at": to_text(moment.now)})
    folder.put_pending(key, made)
    return made


def import_chain(
    here: Here, untrusted_chain: bytes, *, untrusted_root: bytes | None = None, dry_run: bool = False
) -> certcheck.Judged:
    """Judge what the facility's authority made and put it in place.

    The root is given the first time and kept; another one later has to be given again, and is recorded.

    Raises:
        CertificateRefusedError: A rule does not hold; nothing was changed.
        NotInstalledError: No request waits, so there is no key that it could be for.
        ClockUncertainError, LedgerUnavailableError, UnitError, KeyMissingError: As `rotate`.
    """
    folder, moment = here.folder, here.moment()
    key = folder.pending()
    if key is None:
        raise NotInstalledError(
            what="no request waits on this box",
            why="a certificate is for a key that was made here",
            fix="run `sealift tls request`, and have that request signed",
        )
    root = folder.root() if untrusted_root is None else certcheck.read_root(untrusted_root, moment)
    if root is None:
        raise CertificateRefusedError(
            what="the facility's root is not known yet", why="nobody has given it", fix="give it with --root FILE"
        )
    judged = certcheck.judge(
        certcheck.read_chain(untrusted_chain),
        key=key.public_key(),
        hostname=here.config.service.hostname,
        names=certificates.names_of(here.config),
        root=root,
        moment=moment,
    )
    if dry_run:
        return judged
    made = Credential(key=key, certificate=judged.certificate, between=judged.between)
    facts = {"root": fingerprint(root), "issuer": judged.certificate.issuer.rfc4514_string()[:200]}
    _replace(here, made, kind=IMPORTED, facts=facts)
    folder.put_root(root)
    folder.drop_pending()
    return judged


def revoke(here: Here, serial: str, reason: Reason, *, dry_run: bool = False) -> Revocations:
    """Take a certificate of the box's own authority back; the one that is shown is replaced first.

    Raises:
        CertificateRefusedError: The shown one is the facility's, whose authority alone takes it back.
        KeyMissingError: There is no authority here, or this user is not root.
        ClockUncertainError, LedgerUnavailableError, UnitError: As `rotate`.
    """
    folder, moment = here.folder, here.moment()
    authority, listed = _require_authority(folder), Revocations.load(folder)
    shown = folder.shown()
    one = Revoked(serial=serial, at=moment.now.replace(microsecond=0), reason=reason)
    is_shown = shown is not None and serial_of(shown.certificate) == serial
    if is_shown and shown is not None and shown.certificate.issuer != authority.certificate.subject:
        raise CertificateRefusedError(
            what="that certificate is the facility's",
            why="only its authority can take it back",
            fix="ask that authority; `sealift tls request` begins the next one",
        )
    if dry_run or listed.holds(serial):
        return listed.with_one(one)
    here.record(REVOKED, one.to_json())
    if is_shown:
        rotate(here, at_once=str(reason))
    listed = revocation.publish(folder, Revocations.load(folder).with_one(one), authority, moment)
    here.server.reload()
    return listed


def _replace(here: Here, made: Credential, *, kind: str, facts: Mapping[str, Any]) -> bool:
    folder, before = here.folder, here.folder.shown()
    here.record(kind, {**facts_of(made.certificate), **facts, "replaces": _replaced(before)})
    folder.show(folder.keep(made))
    try:
        return webserver.take_up(here.server, fingerprint(made.certificate))
    except SealiftError as error:
        if before is not None:
            folder.show(before.name)
            with suppress(SealiftError):
                here.server.reload()
        here.record(TAKEN_BACK, {"fingerprint": fingerprint(made.certificate), "code": error.code})
        raise


def facts_of(certificate: x509.Certificate) -> dict[str, Any]:
    """Return what the ledger and `sealift tls show` say of a certificate."""
    return {
        "fingerprint": fingerprint(certificate),
        "serial": serial_of(certificate),
        "not_before": to_text(certificate.not_valid_before_utc),
        "not_after": to_text(certificate.not_valid_after_utc),
        "names": [str(one.value) for one in _names(certificate)],
    }


def _authority(here: Here, moment: Moment) -> Credential:
    if (found := here.folder.authority()) is not None:
        return found
    made = certificates.make_authority(here.config.site, moment)
    here.record(AUTHORITY_MADE, {**facts_of(made.certificate), "names": []})
    here.folder.put_authority(made)
    return made


def _require_authority(folder: TlsFolder) -> Credential:
    if (found := folder.authority()) is None:
        raise KeyMissingError(what="this box has no authority yet", why="", fix="run `sealift tls rotate`")
    return found


def _is_facilitys(folder: TlsFolder) -> bool:
    shown, root = folder.shown(), folder.root()
    authority = folder.authority()
    return (
        shown is not None
        and root is not None
        and (authority is None or shown.certificate.issuer != authority.certificate.subject)
    )


def _crl_is_due(folder: TlsFolder, moment: Moment) -> bool:
    authority = folder.authority()
    return authority is None or revocation.is_due(folder, Revocations.load(folder), authority, moment.now)


def _names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def _replaced(before: Shown | None) -> str:
    return "" if before is None else fingerprint(before.certificate)
