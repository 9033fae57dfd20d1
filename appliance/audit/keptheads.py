"""The checkpoints that a ledger keeps, held against its tree while the records are read.

They are what an auditor is handed besides the newest one, and what a proof of an older record is shown under: one that
the disk changed would make an export that is refused elsewhere. Those of an epoch that ended are signed by its keys.
"""

from collections.abc import Iterator
from typing import Final

from appliance.audit import note, succession
from appliance.audit.facts import EvidenceLedger
from media.errors import SealiftError

_PAGE: Final = 1000


class KeptHeads:
    """Compares them in order; `compare` the next when the tree has grown to the size that is `due`.

    Args:
        ledger: Whose they are.
        keys: That the records name, of all epochs.
        most: How many records are read; what is signed over more of them is not looked at.
    """

    def __init__(self, ledger: EvidenceLedger, keys: succession.Keys, *, most: int) -> None:
        self._keys = keys
        self._waiting = _up_to(ledger, most)
        self._next = next(self._waiting, None)
        self._wrong = 0
        self._first = ""
        self.compared = 0
        """How many were."""

    @property
    def due(self) -> int:
        """The size of the next; -1 where there is none."""
        return -1 if self._next is None else self._next[0]

    @property
    def finding(self) -> str:
        """What is wrong with them; empty for nothing."""
        if not self._wrong:
            return ""
        wrong = f"{self._wrong} of the checkpoints that are kept do not hold, the first {self._first}"
        return f"{wrong}: an export with it is refused"

    def compare(self, origin: str, root: bytes) -> None:
        """Hold the one that is due against the tree of its size, and go on to the next."""
        if self._next is None:
            return
        size, untrusted_note = self._next
        if why := self._contradiction(untrusted_note, note.Checkpoint(origin=origin, size=size, root=root)):
            self._first = self._first or f"that of {size} records ({why})"
            self._wrong += 1
        self.compared += 1
        self._next = next(self._waiting, None)

    def _contradiction(self, untrusted_note: str, found: note.Checkpoint) -> str:
        try:
            signed = self._keys.checkpoint(untrusted_note)
        except SealiftError as error:
            return error.why or error.what
        if signed.size != found.size:
            return f"it was signed over {signed.size}"
        return "" if signed == found else "it was signed over other records"


def _up_to(ledger: EvidenceLedger, most: int) -> Iterator[tuple[int, str]]:
    place = 0
    while page := ledger.checkpoints(place, _PAGE):
        for one in page:
            if one[0] > most:
                return
            yield one
        place = page[-1][0] + 1
