"""The ledger's head outside the disk it lies on: on the token that holds the box's keys.

Whoever puts yesterday's disk back, or a snapshot, puts back ledger, key and clock floor alike, and nothing on that disk
can tell. A token is not on it. Each signed checkpoint is laid there, and a ledger that opens must contain it.

Rules:
    REM-1 A ledger that is shorter than what the token remembers, or another one, does not open.
    REM-2 A ledger that was restored opens where its epoch says that it continues what the token remembers.
    REM-3 A token that cannot be read stops the ledger; one that cannot be written lags behind, which hides nothing
          earlier, and is told in the journal.
"""

import logging
from typing import Final, Protocol

from appliance.audit import tree
from appliance.audit.epochs import MOST, RESTORED, continued
from appliance.audit.log import Log
from appliance.audit.note import Checkpoint
from appliance.errors import LedgerDamagedError, ProofError
from media.errors import SealiftError

_FIX: Final = "two people find out why, then restore from the newest backup: docs/runbooks/lost-box.md"
_log = logging.getLogger("sealift.ledger")


class Memory(Protocol):
    """A few bytes that outlive this machine's disks."""

    def recall(self) -> tuple[bytes, ...]:
        """Return what is remembered: none at first, then one; two where a cut came between, and both are true.

        Raises:
            KeyMissingError: It cannot be asked.
        """
        ...

    def remember(self, value: bytes) -> None:
        """Replace what was remembered.

        Raises:
            KeyMissingError: It refuses.
        """
        ...


def require_nothing_lost(log: Log, memory: Memory) -> None:
    """Refuse a ledger that does not contain what was remembered of it.

    Raises:
        LedgerDamagedError: It is shorter, or another.
        KeyMissingError: The memory cannot be asked.
    """
    for untrusted in memory.recall():
        try:
            point = Checkpoint.from_text(untrusted.decode())
        except (UnicodeDecodeError, ProofError) as error:
            raise _lost("what the token remembers of it does not read") from error
        _require_of(log, point)


def _require_of(log: Log, point: Checkpoint) -> None:
    if point.origin == log.origin:
        _require(log, point, within=log.head().size)
        return
    for leaf in log.leaves(1, MOST, kinds=[RESTORED]):
        origin, size, _ = continued(leaf.body)
        if origin == point.origin:
            # What the lost box recorded after its last backup is gone, and the epoch's record says so.
            if point.size <= size:
                _require(log, point, within=size)
            return
    raise _lost("the token remembers another ledger")


def remember(log: Log, memory: Memory) -> None:
    """From now on lay each checkpoint that is signed into the memory."""

    def keep(point: Checkpoint) -> None:
        try:
            memory.remember(point.to_text().encode())
        except SealiftError as error:
            _log.error("the token does not remember the ledger's head (%s): %s", error.why, error.fix)

    log.kept = keep


def _require(log: Log, point: Checkpoint, *, within: int) -> None:
    if point.size > within:
        raise _lost(f"it has {within} records, the token remembers {point.size}")
    if tree.root(point.size, log.backend.node) != point.root:
        raise _lost(f"its first {point.size} records hash to something else than the token remembers")


def _lost(why: str) -> LedgerDamagedError:
    return LedgerDamagedError(what="this disk's ledger is older than the box, or another's", why=why, fix=_FIX)
