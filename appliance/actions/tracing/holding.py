"""Which requests legal holds cover: all, one by its id, or what a version, release, medium, signer or approver touched.

A hold by a selector is judged when something would go, never when it was made, so that it covers what comes later too.
A request of which the ledger shows no beginning is covered by every selector: what cannot be judged is kept.
"""

from collections.abc import Iterable
from typing import Final

from appliance.actions.tracing.selection import INTENT, Selection, Selector, resolve
from appliance.audit.facts import Ledger
from appliance.errors import UnknownVersionError
from media.errors import UsageError

EVERYTHING: Final = "all"


class Cover:
    """What a set of holds covers now.

    Args:
        ledger: Where requests and what they rest on are found.
        holds: Of each hold in force what it is about: `all`, a request's id, or a selector.
    """

    def __init__(self, ledger: Ledger, holds: Iterable[str | Selector]) -> None:
        self._ledger = ledger
        abouts = list(holds)
        self._named = {about for about in abouts if isinstance(about, str)}
        self._selectors = [about for about in abouts if isinstance(about, Selector)]
        self._selections: list[Selection] | None = None

    @property
    def is_everything(self) -> bool:
        """Whether nothing at all may go."""
        return EVERYTHING in self._named

    def keeps(self, request_id: str) -> bool:
        """Tell whether a request's sample must stay."""
        if self._named & {EVERYTHING, request_id}:
            return True
        if not self._selectors:
            return False
        begun = self._ledger.find(INTENT, field="request_id", value=request_id, limit=1)
        return not begun or any(selection.covers(begun[0]) for selection in self._resolved())

    def _resolved(self) -> list[Selection]:
        if self._selections is None:
            self._selections = [found for one in self._selectors if (found := self._of(one)) is not None]
        return self._selections

    def _of(self, selector: Selector) -> Selection | None:
        try:
            return resolve(self._ledger, selector)
        except (UnknownVersionError, UsageError):
            return None  # nothing of that name is here, so it touched nothing yet
