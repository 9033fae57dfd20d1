"""What commands that read a ledger have in common where they may read the mirror of another box's instead."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import typer

from appliance.actions.proven_mirror import ProvenMirror
from appliance.actions.standby import mirrored
from appliance.actions.standby.mirrored import Mirrored
from appliance.audit import note, pin
from appliance.audit.client import OfflineLedger, SocketLedger
from appliance.audit.facts import EvidenceLedger
from appliance.audit.leaf import Leaf
from appliance.cli.context import Context
from appliance.cli.opened import ledger_of

Of = Annotated[
    str,
    typer.Option(
        "--of", metavar="BOX", help="Not this box's ledger: the mirror of another box's, by its name or its ledger's."
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A ledger that a command reads.

    Attributes:
        own: This box's, where that something was read is recorded.
        copy: The mirror that is read instead of it.
        proven: The same, for what is shown of it.
        pinned: The key of the ledger that is read, as it is pinned or its pairing leads to it; None where none is.
    """

    own: SocketLedger | OfflineLedger
    copy: Mirrored | None
    proven: ProvenMirror | None
    pinned: note.VerifierKey | None

    @property
    def key(self) -> note.VerifierKey:
        """The same; where none is pinned, the one that the ledger itself names."""
        return self.pinned or note.VerifierKey.from_text(str(self.ledger.leaf(0).body.get("vkey", "")))

    @property
    def ledger(self) -> SocketLedger | OfflineLedger:
        """What is read."""
        return self.own if self.copy is None else self.copy.ledger

    @property
    def of(self) -> str:
        """The name of a ledger that is read from its mirror; empty for the own one."""
        return "" if self.copy is None else self.copy.known.origin

    def is_signed(self, leaf: Leaf) -> bool:
        """Tell whether a signed checkpoint covers a record of a mirror, and prove it where one does.

        Raises:
            ProofError: It does not lie in the signed tree.
        """
        if self.copy is None or self.proven is None or leaf.sequence >= self.copy.signed.size:
            return self.copy is None
        self.proven.require(leaf)
        return True

    def said(self, text: str) -> str:
        """Return what a command prints, with whose records they are where they are not this box's."""
        return text if self.copy is None else f"{text}\n{self.copy.reach}"


def mirror_of(own: Context, ledger: EvidenceLedger, of: str) -> tuple[Mirrored, ProvenMirror]:
    """Return the mirror of the box, or of the ledger, that was named; raises as `mirrored.named` and `opened`."""
    copy = mirrored.opened(own.config, ledger, mirrored.named(own.config, ledger, of), clock=own.clock)
    return copy, ProvenMirror(copy, ledger, own.config.at)


@contextmanager
def reading(own: Context, of: str) -> Iterator[Reading]:
    """Yield the ledger of this box, or the mirror of the one that was named."""
    with ledger_of(own) as ledger:
        if of:
            copy, proven = mirror_of(own, ledger, of)
            yield Reading(own=ledger, copy=copy, proven=proven, pinned=copy.key)
        else:
            yield Reading(own=ledger, copy=None, proven=None, pinned=pin.read_pin(own.config.at))
