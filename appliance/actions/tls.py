"""Certificates of this box: rotated at 60 of their 90 days, asked of the facility, judged, put in place, recorded.

    due -> key and certificate made -> recorded -> kept beside the one that is shown -> shown by one rename
        -> the web server reads it -> a new connection is shown it; if not, the one before is shown again

The one before stays valid for its last 30 days, so that nobody has to learn of the change; who is being
answered goes on being answered.
"""

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Final

from appliance.actions import tls_facility
from appliance.actions.tls_placing import Here, facts_of, is_for, names_in, put_in_place
from appliance.config import Config
from appliance.errors import CertificateRefusedError, ConflictError, KeyMissingError
from appliance.install import certificates, revocation, tlsauthorities
from appliance.install.certificates import Credential, Moment, fingerprint, is_issued_by, serial_of
from appliance.install.revocation import Reason, Revocations, Revoked
from appliance.install.tlsfolder import TlsFolder

AUTHORITY_MADE: Final = "tls.authority-made"
MADE: Final = "tls.certificate-made"
REVOKED: Final = "tls.revoked"
CRL_MADE: Final = "tls.crl-made"
FACILITY: Final = "facility"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """What a rotation made, and whether the web server was seen to show it.

    Made are `ca`, `authorities` (whom to trust), `crl`, `server` and `request`. A key that was there and could not be
    read by the web server, as a release before left it, `is_given` to it.
    """

    made: tuple[str, ...]
    why: str
    fingerprint: str
    is_seen: bool = False
    is_given: bool = False
    forgotten: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the fields; `changed` is for the playbook."""
        return {**asdict(self), "changed": bool(self.made) or self.is_given}


def why_due(config: Config, folder: TlsFolder, moment: Moment) -> str:
    """Return why the shown certificate has to be replaced: absent, authority, name or age; empty when it need not."""
    shown, authority = folder.shown(), folder.authority()
    if shown is None or not folder.is_whole():
        return "absent"
    is_own = authority is not None and is_issued_by(shown.certificate, authority.certificate)
    if not is_own and not (config.tls.authority == FACILITY and tls_facility.is_shown(folder)):
        return "authority"
    expected = certificates.names_of(config)
    # A facility's authority may leave addresses out; the host name is what people type.
    is_named = names_in(shown.certificate) == expected if is_own else is_for(shown.certificate, config)
    if not is_named:
        return "name"
    left = shown.ends_at - moment.now
    return "age" if left <= timedelta(days=certificates.RENEW_DAYS) else ""


def rotate(here: Here, *, at_once: str = "", replaces: str = "", dry_run: bool = False) -> Rotated:
    """Make what is missing or due, and have the web server show it; a second run changes nothing.

    Args:
        here: What it works with.
        at_once: Replace the certificate now, for this reason, whether it is due or not.
        replaces: Fingerprint of the certificate that was to be replaced; none is when another one is shown.
        dry_run: Say what would be made, and make nothing.

    Raises:
        ConflictError: Another certificate is shown.
        ClockUncertainError: The clock is wrong.
        LedgerUnavailableError: It could not be recorded; nothing was changed.
        UnitError: The web server does not show it; the one before is shown again.
        KeyMissingError: This user is not root.
    """
    folder, moment = here.folder, here.moment()
    if replaces and ((shown := folder.shown()) is None or fingerprint(shown.certificate) != replaces):
        raise ConflictError(
            what="another certificate is shown than the one to replace",
            why="it was replaced since",
            fix="see `sealift tls show`",
        )
    if not dry_run:
        tlsauthorities.mend(folder)
    made = [] if folder.authority() else ["ca"]
    why = at_once or why_due(here.config, folder, moment)
    is_facilitys = here.config.tls.authority == FACILITY and tls_facility.is_shown(folder)
    if why:
        made += ["request"] if is_facilitys and folder.pending() is None else [] if is_facilitys else ["server"]
    if dry_run:
        shown = folder.shown()
        crl = ["crl"] if made[:1] == ["ca"] or _crl_is_due(folder, moment) else []
        return Rotated(made=(*made, *crl), why=why, fingerprint=fingerprint(shown.certificate) if shown else "")
    folder.make()
    is_given = folder.give_keys()
    authority = _authority(here, moment)
    brought = _bring_lists(here, moment)
    made += [one for one in brought if one != "authorities" or "ca" not in made]
    if "request" in made:
        tls_facility.request(here, moment=moment)
    is_seen = False
    if "server" in made:
        is_seen = put_in_place(
            here, certificates.make_server(here.config, authority, moment), kind=MADE, facts={"why": why}
        )
    elif brought:
        is_seen = here.server.reload()
    if not is_facilitys:
        folder.tell_whom_to_trust(tlsauthorities.trusted_file(folder))
    elif folder.root() is not None:
        folder.tell_whom_to_trust(folder.root_file)
    found = folder.shown()
    return Rotated(
        made=tuple(made),
        why=why,
        fingerprint=fingerprint(found.certificate) if found else "",
        is_seen=is_seen,
        is_given=is_given,
        forgotten=tuple(folder.forget_ended(moment.now)),
    )


def revoke(here: Here, serial: str, reason: Reason, *, dry_run: bool = False) -> Revocations:
    """Take a certificate of the box's own authority back; the one that is shown is replaced first.

    One that was taken back already is handed to the web server again: it may have been cut off before that.

    Raises:
        CertificateRefusedError: The shown one is the facility's, whose authority alone takes it back.
        KeyMissingError: There is no authority here, or this user is not root.
        ClockUncertainError, LedgerUnavailableError, UnitError: As `rotate`.
    """
    folder, moment = here.folder, here.moment()
    _require_authority(folder)
    listed, shown = Revocations.load(folder), folder.shown()
    one = Revoked(serial=serial, at=moment.now.replace(microsecond=0), reason=reason)
    is_shown = shown is not None and serial_of(shown.certificate) == serial
    if is_shown and tls_facility.is_shown(folder):
        raise CertificateRefusedError(
            what="that certificate is the facility's",
            why="only its authority can take it back",
            fix="ask that authority; `sealift tls request` begins the next one",
        )
    if dry_run:
        return listed.with_one(one)
    if listed.holds(serial):
        _bring_lists(here, moment)
        here.server.reload()
        return listed
    here.record(REVOKED, one.to_json())
    if is_shown:
        rotate(here, at_once=str(reason))
    signers = tlsauthorities.accepted(folder)
    with revocation.alone(folder):
        listed = revocation.publish(folder, Revocations.load(folder).with_one(one), signers, moment)
    here.server.reload()
    return listed


def _bring_lists(here: Here, moment: Moment) -> list[str]:
    """Bring what nginx reads of the own authorities up to date: whom to trust, and a list of each; return which."""
    folder = here.folder
    told = ["authorities"] if tlsauthorities.tell(folder) else []
    signers = tlsauthorities.accepted(folder)
    with revocation.alone(folder):
        listed = Revocations.load(folder)
        if not revocation.is_due(folder, listed, signers, moment.now):
            return told
        here.record(CRL_MADE, {"number": listed.number + 1, "revoked": len(listed.revoked)})
        revocation.publish(folder, listed, signers, moment)
    return [*told, "crl"]


def _authority(here: Here, moment: Moment) -> Credential:
    if (found := here.folder.authority()) is not None:
        return found
    made = certificates.make_authority(here.config.site, moment)
    here.record(AUTHORITY_MADE, {**facts_of(made.certificate), "names": []})
    here.folder.put_authority(made)
    return made


def _require_authority(folder: TlsFolder) -> None:
    if folder.authority() is None:
        raise KeyMissingError(what="this box has no authority yet", why="", fix="run `sealift tls rotate`")


def _crl_is_due(folder: TlsFolder, moment: Moment) -> bool:
    signers = tlsauthorities.accepted(folder)
    return not signers or revocation.is_due(folder, Revocations.load(folder), signers, moment.now)
