"""That somebody read evidence is evidence too: who came in by which door, what was asked for, how much was found.

What a reader typed is not recorded, since it may be anything; the records that it led to are.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final, Literal

from appliance.audit.client import Ledger, OfflineLedger
from appliance.audit.leaf import Leaf
from media.clock import Clock

READ: Final = "evidence.read"
ONE_READ_SECONDS: Final = 60.0
_REMEMBERED: Final = 4096
How = Literal["list", "show", "prove"]


def note_read(
    ledger: Ledger, how: How, leaves: Sequence[Leaf], *, request_id: str = "", person: str = "", of: str = ""
) -> None:
    """Record that these records were read, before they are shown; nothing where the ledger does not run.

    Args:
        ledger: Through the door of whoever reads; who that is comes from the socket.
        how: By which command.
        leaves: What was found.
        request_id: Of the answer that it was about, where there is one.
        person: Who is logged in, where the reader comes by the page, whose door is one for all.
        of: The ledger whose mirror was read, where it was not the own one.

    Raises:
        LedgerUnavailableError: It could not be recorded, so nothing may be shown.
    """
    if isinstance(ledger, OfflineLedger):
        return
    sequences = [leaf.sequence for leaf in leaves]
    body: dict[str, Any] = {
        "how": how,
        "records": len(sequences),
        "first": min(sequences, default=None),
        "last": max(sequences, default=None),
        "request_id": request_id or None,
    }
    if person:
        body["person"] = person
    if of:
        body["ledger"] = of
    ledger.append(READ, body)


class Readings:
    """Who read what on the page within the last minute: what the same person reloads is one read.

    Args:
        clock: Its monotonic seconds count, so a clock that is set hides no reading.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._noted: OrderedDict[tuple[str, How, int], float] = OrderedDict()

    def note(self, ledger: Ledger, how: How, leaf: Leaf, *, person: str, request_id: str = "") -> None:
        """Record that a person read this, unless the record of that is less than `ONE_READ_SECONDS` old.

        Raises:
            LedgerUnavailableError: It could not be recorded, so nothing may be shown.
        """
        read = (person, how, leaf.sequence)
        now = self._clock.monotonic()
        with self._lock:
            noted = self._noted.get(read)
        if noted is not None and now - noted < ONE_READ_SECONDS:
            return
        note_read(ledger, how, [leaf], request_id=request_id, person=person)
        with self._lock:
            self._noted[read] = now
            self._noted.move_to_end(read)
            while len(self._noted) > _REMEMBERED:
                self._noted.popitem(last=False)
