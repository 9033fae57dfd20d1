"""The log of one node among several (ADR 53): each batch goes on after what the others added, in one tree.

What this process remembers of the log (tip, kinds, idempotency keys) follows what others added: within the transaction
of each batch of its own, before each answer that depends on the tip, and at each pulse. The one node that leads takes
every record; the others take what belongs to answering, and what happened to their own machine.
"""

import hashlib
from collections.abc import Sequence
from threading import RLock
from typing import Any, Final

from appliance.audit import succession, tree
from appliance.audit.batch import Tip
from appliance.audit.entry import Entry
from appliance.audit.facts import Appended
from appliance.audit.log import Log
from appliance.audit.postgres_sharing import Added, SharedBackend
from appliance.errors import LedgerDamagedError, LedgerRefusedError, LedgerUnavailableError

_PAGE: Final = 4096
# Doors of the ledger's own process.
_OWN_DOORS: Final = frozenset({"ledger", "spool"})
_ANY_NODE: Final = (
    *("request.", "evidence.", "admin."),
    *("medium.", "release.", "custody.", "trust.", "export.", "install.", "store.", "tls.", "clock.", "network."),
    *("job.", "backup.", "capacity.", "retention.", "erasure.", "review.", "key.made", "key.destroyed"),
    # An install registers what its release brings, and may have lost the lead by starting its own ledger anew.
    *("model.registered", "model.damaged", "model.sound"),
    *("census.seen", "census.followed", "window.closed", "retire.node-"),
)


class SharedLog(Log):
    """A `Log` over a `SharedBackend`."""

    backend: SharedBackend

    def __init__(self, backend: SharedBackend, **more: Any) -> None:
        super().__init__(backend, **more)
        self.node = backend.name
        self._order = RLock()

    @property
    def is_alone(self) -> bool:
        """Whether no other node can have the ledger open; see `SharedBackend`."""
        return self.backend.is_alone

    def admit(self, entry: Entry) -> None:
        """Return when this node may take a record; see `Log.admit`."""
        leads = self.backend.leads or entry.via.door in _OWN_DOORS
        if not leads and not entry.kind.startswith(_ANY_NODE):
            raise LedgerUnavailableError(
                what=f"another node leads, and records of kind {entry.kind} are made there",
                why=f"{self.node} answers beside it",
                fix="do it on the node that leads: `sealift status` names it",
            )

    def append(self, entries: Sequence[Entry]) -> list[Appended | LedgerRefusedError]:
        """Make all entries durable after what other nodes added, or none; see `Log.append`."""
        with self._order:
            with self.backend.turn():
                self._follow()
                planned = self._plan(entries)
                if planned.rows:
                    self.backend.append(planned.rows, planned.nodes)
            self._adopt(planned)
        return planned.answers

    def pulse(self) -> bool:
        """Read on, and take the lead when nobody has it; see `Log.pulse`."""
        self.follow()
        return not self.backend.leads and self.backend.try_to_lead()

    def follow(self) -> None:
        """Take in what other nodes added; see `Log.follow`."""
        with self._order:
            self._follow()

    def _follow(self) -> None:
        before = self._tip
        while page := self.backend.added(before.size, _PAGE):
            before = self._after(before, page)
            self._tip = before
            kinds = {row.kind for row in page}
            if kinds & succession.NAMING and self.signer is not None:
                # Keys rotate while a node is alone. Opening anew finds the one that signs now.
                self.backend.distrust()
                raise LedgerUnavailableError(
                    what="the key of checkpoints changed", why="another node says so", fix="it opens anew by itself"
                )
            self._note(kinds, {row.retry: row.sequence for row in page if row.retry})
            if len(page) < _PAGE:
                return

    def _after(self, tip: Tip, added: Sequence[Added]) -> Tip:
        size, frontier, chain = tip.size, list(tip.frontier), tip.chain
        for row in added:
            chain = hashlib.sha256(chain + row.hash).digest()
            if (row.sequence, row.chain) != (size, chain):
                self.backend.distrust()
                raise LedgerDamagedError(
                    what="the ledger does not go on from where this node knew it",
                    why=f"record {row.sequence} follows another one than {size - 1} as it was",
                    fix="stop all nodes; see docs/operator/ledger.md: recovery",
                )
            tree.push(frontier, size, row.hash)
            size += 1
        return Tip(size, tuple(frontier), chain)
