"""What a restore replaces: whether people have to say so, and what it says was destroyed."""

from typing import Any, BinaryIO, Final

from appliance.actions.backups import aside, erasures
from appliance.audit import exclusive, storage
from appliance.audit.client import OfflineLedger
from appliance.audit.sqlite_backend import FILE_NAME
from appliance.config import Config
from appliance.errors import ConflictError, LedgerDamagedError, LedgerUnavailableError, ProofError
from media.clock import Clock

_IN_USE: Final = ("person.enrolled", "request.intent", "promotion.made")
_UNREADABLE: Final = (LedgerDamagedError, LedgerUnavailableError, ProofError)
"""The last one of a record that begins an epoch with a key that is none."""


def replaced(config: Config, *, may: bool, clock: Clock) -> dict[str, Any] | None:
    """Return the head of the ledger that is here and will be put aside; None for none.

    A box that was only installed has one, with what was received on it; one with people or answers is in use, and so is
    one that cannot be read.

    Args:
        config: Of this box.
        may: People said that what is here may be put aside.
        clock: What time it is.

    Raises:
        ConflictError: The box is in use, and they did not.
        LedgerUnavailableError: The ledger runs.
    """
    why, here = "", None
    if (config.at.ledger / storage.ELSEWHERE).exists():
        why = "its ledger is on a PostgreSQL server, and stays there as it is"
    if (config.at.ledger / FILE_NAME).exists():
        _require_stopped(config)
        try:
            ledger = OfflineLedger(config.at, clock=clock)
            if not why and any(ledger.find(kind=kind, limit=1) for kind in _IN_USE):
                why = "its ledger has people or answers of its own"
            head = ledger.head()
            here = {"origin": head.origin, "size": head.size, "root": head.root}
        except _UNREADABLE:
            why, here = why or "its ledger cannot be read", {"unreadable": True}
    if why and not may:
        raise ConflictError(
            what="this box is in use",
            why=why,
            fix="restore onto a fresh box; or add --replace, which puts what is here aside",
        )
    return here


def _require_stopped(config: Config) -> None:
    """Return when no process has the ledger open: what cannot be read then is the file's own fault.

    Raises:
        LedgerUnavailableError: One has.
    """
    # Where there is no lock nobody holds it, and none is made: it would be root's.
    if (config.at.ledger / exclusive.LOCK_NAME).exists():
        stopped(config).close()


def stopped(config: Config) -> BinaryIO:
    """Lock the ledger that is here; closing what is returned lets go.

    Raises:
        LedgerUnavailableError: It runs.
    """
    folder = config.at.ledger
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return exclusive.take(folder)
    except LedgerUnavailableError as error:
        raise LedgerUnavailableError(
            what="the ledger runs", why=error.why, fix="stop everything first: systemctl stop 'sealift*'"
        ) from error


def erased_here(config: Config) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return what ledgers on this box say was destroyed, verified or not, and which of them did not read as a whole.

    Whoever adds to one only withholds more. What was put aside counts too: a restore that was cut off may have moved
    the ledger there.
    """
    found: frozenset[str] = frozenset()
    unread = []
    for root in (config.at.state, *(one.root for one in aside.asides(config.at))):
        folder = root / config.at.ledger.name
        if (folder / FILE_NAME).exists():
            digests, is_whole = erasures.salvaged(folder)
            found |= digests
            # What a restore that was killed had only begun to write is no ledger that anybody kept.
            if not is_whole and root.name != aside.STAGE:
                unread.append(str(folder.relative_to(config.at.state)))
    return found, tuple(unread)
