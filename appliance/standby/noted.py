"""What happened to the lease, until the ledger took it: who serves does not wait for a record."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from media.errors import SealiftError

_MOST: Final = 1000

Record = Callable[[str, Mapping[str, Any]], object]


class Noted:
    """Records that wait, in their order.

    Args:
        record: Appends to this box's ledger; may raise, and is tried again.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._waiting: list[tuple[str, Mapping[str, Any]]] = []
        self._telling = threading.Lock()

    def note(self, kind: str, body: Mapping[str, Any]) -> None:
        """Keep one for the ledger; beyond a thousand that wait, none more."""
        if len(self._waiting) < _MOST:
            self._waiting.append((kind, body))

    def tell_ledger(self) -> None:
        """Record what waits, for as long as the ledger takes it."""
        with self._telling:
            while self._waiting:
                try:
                    self._record(*self._waiting[0])
                except SealiftError:
                    return
                del self._waiting[0]
