"""What an engine that does not answer keeps back: all that was decided where there is one line, else its own line's."""

from collections.abc import Callable

from appliance.promote.history import Production
from appliance.promote.record import Kind
from media.errors import SealiftError


class LineFaults:
    """The engines that did not answer while production was brought to what was decided.

    Args:
        production: Where production stands.
        told: Reads the sequence in the ledger up to which callers know what was decided.
        line: The one line whose engines are asked for; every line's where it is None.
    """

    def __init__(self, production: Production, *, told: Callable[[], int], line: int | None = None) -> None:
        self._production = production
        self._told = told
        self._line = line
        self._holds_back: SealiftError | None = None
        self._late: SealiftError | None = None

    def take(self, digest: str, error: SealiftError) -> bool:
        """Note that a version's engine does not answer; return whether what was decided takes effect all the same.

        Raises:
            SealiftError: There is one line, so nothing else is to be done.
        """
        line = self._production.line_of(digest)
        if not self._production.has_further or line is None:
            raise error
        if not self._keeps_nothing_back(digest):
            self._holds_back = self._holds_back or error
            return False
        if self._line in {None, line.number}:
            self._late = self._late or error
        return True

    def require_takes_effect(self) -> None:
        """Return when callers may be told what was decided, and what they do not need may stop.

        Raises:
            SealiftError: An engine does not answer that it was decided about; what ran before is needed.
        """
        if self._holds_back is not None:
            raise self._holds_back

    def require_none(self) -> None:
        """Return when every engine that is asked for answers.

        Raises:
            SealiftError: One does not; all else was done.
        """
        if self._late is not None:
            raise self._late

    def _keeps_nothing_back(self, digest: str) -> bool:
        """Tell whether what was decided takes effect though an engine does not answer: it is another line's.

        Callers know what was decided about that line, or they must know at once that one was stopped or went back.
        """
        line, last = self._production.line_of(digest), self._production.last
        if line is None or line.last is None or last is None:
            return False
        if last.kind in {Kind.STOPPED, Kind.ROLLED_BACK} and line.last is not last:
            return True
        return self._told() >= line.last.sequence
