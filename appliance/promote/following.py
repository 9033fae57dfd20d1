"""What the judges of a canary and of a watch share: reading on in the ledger where they stopped.

A judge begins at the record by which its canary or its watch began, and looks back once at what was usual before it.
Made anew it comes to the same figures. A gate that is run again and does not pass tells it of evaluation drift, until
that very gate passes.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from typing import Final, Generic, TypeVar

from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.promote import arrivals
from appliance.promote.arrivals import Arrivals, Counts, Ended, Word

GATE: Final = "gate.result"
HISTORY: Final = 40_000
"""How many records a judge looks back at most."""
_KINDS: Final = arrivals.KINDS | {GATE}
_PAGE: Final = 500

VerdictT = TypeVar("VerdictT")


class Follower(ABC, Generic[VerdictT]):
    """Reads on where it stopped.

    Args:
        ledger: The promoter's door.
        version: Whose gates are looked at.
        sequence: The record by which it began.
        counts: Which requests are looked at.
    """

    def __init__(self, ledger: Ledger, *, version: str, sequence: int, counts: Counts) -> None:
        self._ledger = ledger
        self._version = version
        self._began = sequence
        self._next = sequence + 1
        self._arrivals = Arrivals(counts)
        self._failed_gates: dict[str, None] = {}
        self._has_begun = False

    def read(self, most: int = 20_000) -> VerdictT:
        """Read up to `most` further records and judge.

        Raises:
            LedgerUnavailableError: The ledger does not answer; what was read before stays.
        """
        if not self._has_begun:
            self._look_back()
            self._has_begun = True
        seen = 0
        while seen < most and (page := self._ledger.leaves(self._next, _PAGE, kinds=_KINDS)):
            for leaf in page:
                self._take(leaf)
            self._next = page[-1].sequence + 1
            seen += len(page)
        return self._verdict(is_behind=seen >= most)

    @abstractmethod
    def _look_back(self) -> None:
        """Learn what was usual before it began."""

    @abstractmethod
    def _arrived(self, one: Ended | Word) -> None:
        """Count a request that ended, or a word about one."""

    @abstractmethod
    def _verdict(self, *, is_behind: bool) -> VerdictT:
        """Judge what was read."""

    def _before(self, start: int, *, kinds: Collection[str]) -> Iterator[Leaf]:
        """Yield the records of some kinds from a sequence on that came before it began."""
        while start < self._began and (page := self._ledger.leaves(start, _PAGE, kinds=kinds)):
            for leaf in page:
                if leaf.sequence >= self._began:
                    return
                yield leaf
            start = page[-1].sequence + 1

    def _drift(self) -> list[str]:
        """Return what gates that were run again say against the version."""
        return [f"evaluation: the gate {gate} did not pass when it was run again" for gate in self._failed_gates]

    def _take(self, leaf: Leaf) -> None:
        if leaf.kind == GATE:
            if leaf.body.get("model_digest") == self._version:
                gate = str(leaf.body.get("gate"))
                # Only its own newest result speaks for a gate: another one that passes takes nothing back.
                self._failed_gates.pop(gate, None)
                if leaf.body.get("passed") is not True:
                    self._failed_gates[gate] = None
            return
        for one in self._arrivals.take(leaf):
            self._arrived(one)
