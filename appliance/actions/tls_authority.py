"""The box's own authority is replaced, with a time in which both are trusted and nobody has to hurry.

    next: the following one is made, callers are given both -> (weeks: every caller has both) -> switch: it signs, what
    the former one signed stays good -> (every caller's certificate is issued again) -> finish: the former one is gone

Each step is recorded before it is done, may be repeated, and is completed by the next rotation where it was cut off.
No step makes a connection fail that would have held: a caller trusts both before the one signs that it did not know.
"""

from dataclasses import dataclass
from typing import Any, Final

from appliance.actions import tls, tls_clients
from appliance.actions.tls_placing import Here, facts_of
from appliance.config import Config
from appliance.errors import ConflictError, KeyMissingError
from appliance.install import certificates, tlsauthorities
from appliance.install.certificates import Credential, fingerprint, is_issued_by
from appliance.install.tlsauthorities import FORMER, NEXT
from appliance.install.tlsfolder import TlsFolder, read_certificate

MADE: Final = "tls.authority-next"
SWITCHED: Final = "tls.authority-switched"
FINISHED: Final = "tls.authority-finished"
SIGNS: Final = "signs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorities:
    """The box's own authorities by what they do: `signs`, `next`, `former`; each with its fingerprint and dates."""

    found: dict[str, dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return dict(self.found)


def shown(config: Config) -> Authorities:
    """Return the authorities as everybody may read them."""
    folder = TlsFolder.of(config)
    by_use = {
        SIGNS: read_certificate(folder.authority_file),
        NEXT: tlsauthorities.certificate(folder, NEXT),
        FORMER: tlsauthorities.certificate(folder, FORMER),
    }
    return Authorities(found={use: facts_of(one) for use, one in by_use.items() if one is not None})


def begin(here: Here, *, dry_run: bool = False) -> Authorities:
    """Make the authority that follows, and give callers both; the one that signs goes on signing.

    Raises:
        ConflictError: One is made already, or a former one was not finished.
        KeyMissingError: There is no authority yet, or this user is not root.
        ClockUncertainError, LedgerUnavailableError, UnitError: As `tls.rotate`.
    """
    folder, moment, authority = here.folder, here.moment(), _require(here, dry_run=dry_run)
    for use, word in ((NEXT, "the next authority is made already"), (FORMER, "the former authority is trusted still")):
        if tlsauthorities.other(folder, use) is not None:
            raise ConflictError(
                what=word,
                why="two are trusted at a time, not three",
                fix="see `sealift tls authority show`: switch or finish first",
            )
    if not dry_run:
        made = certificates.make_authority(here.config.site, moment, after=authority.certificate)
        here.record(MADE, {**facts_of(made.certificate), "names": [], "follows": fingerprint(authority.certificate)})
        tlsauthorities.put(folder, NEXT, made)
        tls.rotate(here)
    return shown(here.config)


def switch(here: Here, *, dry_run: bool = False) -> Authorities:
    """Let the next authority sign: the box shows a certificate of it; what the former one signed stays good.

    Raises:
        ConflictError: No next one was made.
        KeyMissingError: This user is not root.
        ClockUncertainError, LedgerUnavailableError, UnitError: As `tls.rotate`; running it again goes on.
    """
    folder, authority = here.folder, _require(here, dry_run=dry_run)
    here.moment()
    made = tlsauthorities.other(folder, NEXT)
    if made is None:
        raise ConflictError(
            what="there is no next authority", why="callers have to know it first", fix="`sealift tls authority next`"
        )
    if not dry_run:
        names = {"from": fingerprint(authority.certificate), "to": fingerprint(made.certificate)}
        here.record(SWITCHED, names)
        tlsauthorities.put(folder, FORMER, authority)
        tlsauthorities.mend(folder)  # from here on a rotation that follows a power cut does the rest
        tls.rotate(here)
    return shown(here.config)


def finish(here: Here, *, drop_clients: bool = False, dry_run: bool = False) -> Authorities:
    """Trust the former authority no more; its key is overwritten.

    Where there is none any more, the web server reads again whom to trust: this may have been cut off before that.

    Args:
        here: What it works with.
        drop_clients: Although callers hold valid certificates of it, which are refused from then on.
        dry_run: Change nothing.

    Raises:
        ConflictError: There is none, or callers hold valid certificates of it.
        KeyMissingError: This user is not root.
        LedgerUnavailableError, UnitError: As `tls.rotate`.
    """
    folder = here.folder
    _require(here, dry_run=dry_run)
    former = tlsauthorities.other(folder, FORMER)
    if former is None:
        if not dry_run:
            tls.rotate(here)
            here.server.reload()
        raise ConflictError(what="there is no former authority", why="", fix="see `sealift tls authority show`")
    held = clients_of(here, former)
    if held and not drop_clients:
        raise ConflictError(
            what="callers hold valid certificates of the former authority",
            why=", ".join(sorted(set(held))[:10]),
            fix="issue theirs again: `sealift tls clients issue`; or add --drop-clients",
        )
    if not dry_run:
        here.record(FINISHED, {"fingerprint": fingerprint(former.certificate), "clients": len(held)})
        tlsauthorities.drop(folder, FORMER)
        tls.rotate(here)
    return shown(here.config)


def clients_of(here: Here, authority: Credential) -> list[str]:
    """Return the names of callers with a valid certificate that an authority signed."""
    valid = {one.serial: one.name for one in tls_clients.clients(here) if one.state == "valid"}
    return [
        valid[serial]
        for one in tls_clients.issued(here.folder)
        if (serial := certificates.serial_of(one)) in valid and is_issued_by(one, authority.certificate)
    ]


def _require(here: Here, *, dry_run: bool) -> Credential:
    if not dry_run:
        tlsauthorities.mend(here.folder)
    if (found := here.folder.authority()) is None:
        raise KeyMissingError(what="this box has no authority yet", why="", fix="run `sealift tls rotate`")
    return found
