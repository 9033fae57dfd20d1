"""The list of names on one node of several: nothing is masked here by less than what the others mask by.

The newest record of a list is the one in force. While this node's file is another one, or is not there, every request
that would be looked through is refused and the node is not ready, unless the site file says that it only tells
(`phi.other_list`). What was found is said in the ledger, by each node of itself.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from appliance.actions import census, censusnodes
from appliance.actions.censusnodes import Word
from appliance.audit.facts import Ledger
from appliance.errors import LedgerUnavailableError, StoreDamagedError
from appliance.keys.provider import KeyProvider
from appliance.phi.censusfile import NAME
from appliance.phi.detect import Detector, Finding
from media.clock import Clock
from media.errors import SealiftError

_FRESH_SECONDS: Final = 1.0
# An import records first and writes then; for that long the list before is as good as it was a moment ago.
_PATIENCE_SECONDS: Final = 2.0
_SAID_AGAIN_SECONDS: Final = 60.0

_Mark = tuple[int, int, int, int]


class NodeCensus:
    """A `Detector` that finds what another one does, while this node has the list on record. Safe for threads.

    Args:
        detector: Finds by patterns and by the list that lies here, if any.
        ledger: Where lists are on record, and where it is said what was found.
        keys: Open and digest the list.
        folder: Where it lies.
        node: This node's name.
        refuses: Whether nothing is found for a node that would mask less, so that its requests are refused.
        clock: How long ago was looked.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        ledger: Ledger,
        keys: KeyProvider,
        folder: Path,
        node: str,
        refuses: bool,
        clock: Clock,
    ) -> None:
        self._detector = detector
        self._ledger = ledger
        self._keys = keys
        self._folder = folder
        self._node = node
        self._refuses = refuses
        self._clock = clock
        self._lock = threading.Lock()
        self._looked_at: float | None = None
        self._agreed_at = self._said_at = float("-inf")
        self._compared: tuple[_Mark | None, int | None] | None = None
        self._word: Word | None = None
        self._is_settled = False
        self._said: tuple[Word, int | None] | None = None

    def find(self, text: str) -> Sequence[Finding]:
        """Return what identifies a person in `text`; see `Detector`.

        Raises:
            StoreDamagedError: This node has not the list on record.
            LedgerUnavailableError: It could never be told yet.
        """
        self.require()
        return self._detector.find(text)

    def require(self) -> None:
        """Return while this node may look through requests; raises as `find`."""
        with self._lock:
            now = self._clock.monotonic()
            if self._looked_at is None or now - self._looked_at > _FRESH_SECONDS:
                self._look(now)
            is_refused = self._refuses and self._is_settled and self._word is not None and self._word.masks_less
        if is_refused:
            raise StoreDamagedError(
                what="this node has not the list of names that is on record",
                why=f"it is {self._word} here",
                fix="import the same list on this node: `sealift census import`, as root",
            )

    def _look(self, now: float) -> None:
        self._looked_at = None  # until this has gone well, the next text looks again
        try:
            record = census.on_record(self._ledger)
        except LedgerUnavailableError:
            if self._word is None:
                raise
            # Without the ledger nothing is answered, and its own error tells callers more. It may have been silent for
            # seconds: those who wait, and the next texts, do not ask it once more.
            self._looked_at = self._clock.monotonic()
            return
        of = None if record is None else record.sequence
        if self._compared != (mark := self._mark(), of):
            self._word = censusnodes.compared(self._folder, self._keys, record)
            self._compared = mark, of
        if self._word is Word.SAME:
            self._agreed_at = now
        # Once for each look, so that what is refused is said, too.
        self._is_settled = self._word is Word.SAME or now - self._agreed_at > _PATIENCE_SECONDS
        self._say(now, of)
        self._looked_at = now

    def _say(self, now: float, of: int | None) -> None:
        word = self._word
        if word is None or not self._is_settled:
            return
        # Another process of this node may have said something else meanwhile.
        if self._said == (word, of) and now - self._said_at < _SAID_AGAIN_SECONDS:
            return
        with suppress(SealiftError, ValueError):  # then with the next look
            censusnodes.say(self._ledger, self._node, word, of)
            self._said, self._said_at = (word, of), now

    def _mark(self) -> _Mark | None:
        try:
            found = (self._folder / NAME).lstat()
        except OSError:  # what cannot be looked at is told by the comparison
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
