"""Puts one certificate in another's place: recorded, kept beside it, shown by one rename, and seen; else taken back."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography import x509

from appliance.actions import believing
from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.install import webserver
from appliance.install.certificates import Credential, Moment, fingerprint, serial_of
from appliance.install.supervisor import is_booted_box
from appliance.install.tlsfolder import Shown, TlsFolder
from appliance.install.webserver import Nginx, NoWebServer, WebServer
from appliance.timekeeping import record as clockrecord
from appliance.timekeeping.believed import require_certain
from appliance.verify import trust
from appliance.verify.trust import TrustRecord
from media.clock import Clock, to_text
from media.errors import SealiftError

TAKEN_BACK: Final = "tls.rotation-failed"


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


def open_server(config: Config) -> WebServer:
    """Return nginx on a booted box, else nothing that could be told."""
    return Nginx(config.service.hostname) if is_booted_box(config) and config.service.tls else NoWebServer()


def put_in_place(here: Here, made: Credential, *, kind: str, facts: Mapping[str, Any]) -> bool:
    """Record a certificate, show it, and look; returns whether a web server was seen to show it.

    Raises:
        LedgerUnavailableError: It could not be recorded; nothing was changed.
        UnitError: The web server does not show it; the one before is shown again.
    """
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
        "names": [str(one.value) for one in names_in(certificate)],
    }


def names_in(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """Return the names of a certificate; none where it has none."""
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def is_for(certificate: x509.Certificate, config: Config) -> bool:
    """Tell whether a certificate names this box's host, in whichever capitals."""
    names = [str(one.value).lower() for one in names_in(certificate) if isinstance(one, x509.DNSName)]
    return config.service.hostname.lower() in names


def _replaced(before: Shown | None) -> str:
    return "" if before is None else fingerprint(before.certificate)
