"""Where conversations began, while two versions are loaded: what the ledger has since then, remembered in this process.

Every gateway reads what the others answered, so a conversation stays with its version whichever gateway it reaches
next, and after a restart. Conversations are keyed hashes; when more are open than are remembered, the oldest are
forgotten and go on as ones that began earlier (ARM-3).
"""

import threading
from collections import OrderedDict
from typing import Final

from appliance.audit.facts import Ledger
from appliance.gateway.arms import Began
from appliance.gateway.routing import Serving

_INTENT: Final = "request.intent"
_MOST: Final = 200_000
_FURTHEST: Final = 200_000
_PAGE: Final = 500


class Conversations:
    """Safe for threads.

    Args:
        ledger: Read through the gateway's door.
        most: How many conversations are remembered.
    """

    def __init__(self, ledger: Ledger, *, most: int = _MOST) -> None:
        self._ledger = ledger
        self._most = most
        self._lock = threading.Lock()
        self._since = -1
        self._next = 0
        self._began: OrderedDict[str, Began] = OrderedDict()

    def began(self, serving: Serving, conversation: str) -> Began | None:
        """Return where a conversation began since this rollout did; None where it began before, or is forgotten.

        Raises:
            LedgerUnavailableError: It cannot be told; then no record could be made either.
        """
        with self._lock:
            if self._since != serving.since:
                self._since, self._next, self._began = serving.since, serving.since, OrderedDict()
            found = self._began.get(conversation)
            if found is None:
                self._read_on()
                found = self._began.get(conversation)
            return found

    def note(self, serving: Serving, conversation: str, began: Began) -> None:
        """Remember what this gateway has answered itself."""
        with self._lock:
            if conversation and self._since == serving.since:
                self._remember(conversation, began)

    def _read_on(self) -> None:
        head = self._ledger.head().size
        self._next = max(self._next, head - _FURTHEST)
        while self._next < head:
            page = self._ledger.leaves(self._next, _PAGE, kinds={_INTENT})
            for leaf in page:
                conversation = leaf.body.get("conversation")
                if isinstance(conversation, str) and conversation:
                    digest, assigned = str(leaf.body.get("model_digest")), str(leaf.body.get("assigned"))
                    self._remember(conversation, Began(model_digest=digest, assigned=assigned))
            self._next = page[-1].sequence + 1 if len(page) == _PAGE else head

    def _remember(self, conversation: str, began: Began) -> None:
        self._began[conversation] = began
        self._began.move_to_end(conversation)
        if len(self._began) > self._most:
            self._began.popitem(last=False)
