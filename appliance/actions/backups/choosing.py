"""Choosing the recipient of backups: two people, one certificate whose private key stays offline."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.actions.backups import making, recipient
from appliance.actions.people import read_certificate
from appliance.audit.client import open_ledger
from appliance.config import Config
from appliance.errors import ApprovalRefusedError, StoreWriteError
from appliance.verify.freshness import different
from media import durable
from media.clock import Clock
from media.errors import MediaError
from media.packets import Certificate

CHOSEN: Final = "backup.recipient-chosen"
_LEAST_PEOPLE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Who can open backups from now on."""

    fingerprint: str
    before: str
    sequence: int


def choose(config: Config, certificate: Path, by: Sequence[str], *, clock: Clock) -> Chosen:
    """Encrypt backups to this certificate from now on; those made before stay as they are.

    Raises:
        ApprovalRefusedError: Fewer than two people.
        LedgerUnavailableError: It could not be recorded; nothing was changed.
        MalformedError: It is not exactly one certificate.
        PreflightError: Nothing can be encrypted to it.
        StoreWriteError: It could not be put in place.
    """
    if (many := different(by)) < _LEAST_PEOPLE:
        raise ApprovalRefusedError(
            what="a recipient of backups takes two people",
            why=f"different people named: {many}",
            fix="--by NAME --by NAME",
        )
    content = read_certificate(certificate)
    found = Certificate.from_bytes(content)
    recipient.require_usable(certificate)
    place = config.at.backup_recipient
    before = _before(place)
    ledger = open_ledger(config, making.DOOR, clock=clock)
    try:
        done = ledger.append(CHOSEN, {"fingerprint": found.fingerprint, "before": before, "by": list(by)})
    finally:
        ledger.close()
    try:
        durable.replace(place, content, mode=0o644)
    except OSError as error:
        raise StoreWriteError(
            what="the recipient could not be put in place", why=error.strerror or "", fix="run as root, again"
        ) from error
    return Chosen(fingerprint=found.fingerprint, before=before, sequence=done.sequence)


def _before(place: Path) -> str:
    """Return whose certificate is in place; nothing for none, or where it does not read and is replaced."""
    try:
        return Certificate.from_bytes(place.read_bytes()).fingerprint
    except (FileNotFoundError, MediaError):
        return ""
